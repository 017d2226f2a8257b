// From an engine's configured endpoint to ours: who listens, where, on which port for which rank.

import KVEvents
import Testing

@Suite struct EndpointTests {
  @Test(arguments: [
    ("tcp://*:5557", 0, "tcp://gpu-1:5557", false), ("tcp://*:5557", 3, "tcp://gpu-1:5560", false),
    ("tcp://[::]:5557", 1, "tcp://gpu-1:5558", false), ("tcp://0.0.0.0:5557", 0, "tcp://gpu-1:5557", false),
    ("tcp://127.0.0.1:5557", 2, "tcp://127.0.0.1:5559", true), ("tcp://router:5557", 0, "tcp://*:5557", true),
    ("tcp://[fe80::1]:5557", 0, "tcp://[fe80::1]:5557", true),
    ("ipc:///run/e.sock", 0, "ipc:///run/e.sock", false),
  ])
  func eventsAreMetWhereTheEngineIsNot(_ endpoint: String, _ rank: Int, _ address: String, _ isBound: Bool) {
    #expect(
      CacheEventEndpoint.events(of: endpoint, host: "gpu-1", rank: rank)
        == CacheEventEndpoint(address: address, isBound: isBound))
  }

  @Test(arguments: [
    ("tcp://*:5558", 1, "tcp://[fd00::2]:5559"), ("tcp://10.0.0.9:5558", 0, "tcp://10.0.0.9:5558"),
    ("ipc:///run/r.sock", 0, "ipc:///run/r.sock"),
  ])
  func replaysAreAlwaysBoundByTheEngine(_ endpoint: String, _ rank: Int, _ address: String) {
    #expect(
      CacheEventEndpoint.replay(of: endpoint, host: "fd00::2", rank: rank)
        == CacheEventEndpoint(address: address, isBound: false))
  }

  @Test(arguments: [
    ("tcp://gpu-1:5557", false, true), ("tcp://GPU-1:5557", false, true),
    ("tcp://10.0.0.9:5557", false, true),
    ("tcp://[fd00::2]:5557", false, true), ("tcp://[FD00::2]:5557", false, true),
    ("tcp://gpu-1:5557", true, false), ("tcp://gpu-2:5557", false, false), ("tcp://*:5557", false, false),
    ("tcp://10.0.0.90:5557", false, false), ("ipc://gpu-1:5557", false, false), ("tcp://:5557", false, false),
    ("tcp://gpu-1", false, false), ("tcp://10.0.0.9;gpu-1:5557", false, false), ("", false, false),
  ])
  func onlyTCPToTheNamedHostsIsTheirOwn(_ address: String, _ isBound: Bool, _ isOwn: Bool) {
    let endpoint = CacheEventEndpoint(address: address, isBound: isBound)
    #expect(endpoint.isTCP(to: ["gpu-1", "10.0.0.9", "fd00::2"]) == isOwn)
    #expect(endpoint.isTCP(to: []) == false)
  }

  @Test(arguments: [
    ("inproc://cache", 0), ("ipc:///run/e.sock", 1), ("tcp://*", 0), ("tcp://*:", 0), ("tcp://*:x", 0),
    ("tcp://*:65535", 1), ("tcp://*:0", 0), ("tcp://:5557", 0), ("", 0), ("tcp://*:5557", -1),
    ("tcp://*:5557", Int.max), ("udp://*:5557", 0), ("tcp://*:99999", 0),
  ])
  func whatCannotBeMetIsNil(_ endpoint: String, _ rank: Int) {
    #expect(CacheEventEndpoint.events(of: endpoint, host: "h", rank: rank) == nil)
    #expect(CacheEventEndpoint.replay(of: endpoint, host: "h", rank: rank) == nil)
  }
}
