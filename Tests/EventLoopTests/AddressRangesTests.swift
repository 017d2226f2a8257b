// Networks in CIDR form, and which addresses lie in them.

import Testing

@testable import EventLoop

@Suite struct AddressRangesTests {
  private func contains(_ ranges: [String], _ host: String) throws -> Bool {
    var faults: [String] = []
    let read = AddressRanges(ranges, faults: &faults)
    #expect(faults == [])
    return read.contains(try #require(SocketAddress.resolve(host: host, port: 80).first))
  }

  @Test(
    arguments: [
      (["10.0.0.0/8"], "10.255.1.2", true), (["10.0.0.0/8"], "11.0.0.1", false),
      (["192.168.4.7"], "192.168.4.7", true), (["192.168.4.7"], "192.168.4.6", false),
      (["172.16.0.0/12"], "172.31.255.255", true), (["172.16.0.0/12"], "172.32.0.0", false),
      (["128.0.0.0/1"], "200.1.1.1", true), (["128.0.0.0/1"], "127.0.0.1", false),
      (["0.0.0.0/0"], "8.8.8.8", true), (["0.0.0.0/0"], "::1", false), (["::/0"], "::1", true),
      (["::1"], "::1", true), (["fd00::/8"], "fdff::1", true), (["fd00::/8"], "fe00::1", false),
      (["2001:db8::/33"], "2001:db8:7fff::1", true), (["2001:db8::/33"], "2001:db8:8000::1", false),
      (["10.1.2.3/31"], "10.1.2.2", true), (["fd00::/8", "10.0.0.0/8"], "10.0.0.1", true),
      ([], "10.0.0.1", false),
      // A socket for both families shows callers by IPv4 like this.
      (["10.0.0.0/8"], "::ffff:10.0.0.1", true), (["::ffff:0:0/96"], "::ffff:10.0.0.1", false),
    ] as [([String], String, Bool)])
  func addressesLieInTheirNetworks(_ ranges: [String], _ host: String, _ isInside: Bool) throws {
    #expect(try contains(ranges, host) == isInside)
  }

  @Test(arguments: [
    "", "10", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "/8", "::1/129",
    "localhost",
    "10.0.0.256", "fd00::/8x",
  ])
  func otherTextsAreNamedAndLeftOut(_ text: String) {
    var faults: [String] = []
    let ranges = AddressRanges([text], faults: &faults)
    #expect(ranges.isEmpty && faults.count == 1 && faults[0].contains("'\(text)'"))
  }
}
