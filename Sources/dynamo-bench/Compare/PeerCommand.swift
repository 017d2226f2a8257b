// The command line and environment of each peer.

import Base
import EventLoop
import Glibc

/// How one peer is started.
struct PeerCommand {
  var arguments: [String] = []
  var environment: [String: String] = [:]

  /// `otherPort` is for what a peer wants beside its own port; `sinkPort` is where its spans go.
  init(
    _ peer: Peer, _ setting: PeerSetting, port: UInt16, otherPort: UInt16, sinkPort: UInt16?
  ) throws(CompareError) {
    let urls = setting.workers.map { "http://127.0.0.1:\($0)" }
    switch peer.kind {
    case .direct: break
    case .nginx:
      let path = "\(setting.directory)/nginx-\(port).conf"
      let text = PeerConfigurations.nginx(port: port, workers: setting.workers, directory: setting.directory)
      guard writeFile(path, text) else { throw .files(path) }
      arguments = [
        "nginx", "-p", setting.directory, "-e", "\(setting.directory)/nginx-error.log", "-c", path,
      ]
    case .haproxy:
      let path = "\(setting.directory)/haproxy-\(port).cfg"
      let text = PeerConfigurations.haproxy(port: port, promptPort: otherPort, workers: setting.workers)
      guard writeFile(path, text) else { throw .files(path) }
      arguments = ["haproxy", "-db", "-f", path]
    case .frontend(let options):
      arguments = [
        setting.frontend, "--http-host", "127.0.0.1", "--http-port", String(port), "--router-mode",
        options.mode,
      ]
      for url in urls {
        arguments += ["--worker", options.multiplexed ? "h2c" + url.dropFirst("http".count) : url]
      }
      if options.tokens, let path = setting.modelPath { arguments += ["--model-path", path] }
      environment["DYN_FILE_KV"] = "\(setting.directory)/discovery-\(port)"
      if let sinkPort { trace(to: sinkPort) }
    case .router(let package, let policy, _):
      arguments = [
        "\(setting.pythonEnvironment)/bin/python", "-m", "\(package)_router.launch_router", "--host",
        "127.0.0.1",
        "--port", String(port), "--policy", policy, "--prometheus-port", String(otherPort), "--worker-urls",
      ]
      arguments += urls
      addRouterFlags(package, sinkPort: sinkPort)
    }
  }

  private mutating func trace(to sinkPort: UInt16) {
    environment["DYN_LOGGING_JSONL"] = "true"
    environment["OTEL_EXPORT_ENABLED"] = "true"
    environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:\(sinkPort)"
  }

  private mutating func addRouterFlags(_ package: String, sinkPort: UInt16?) {
    if package == "sglang" {
      arguments += ["--max-concurrent-requests", "-1", "--log-level", sinkPort == nil ? "warn" : "info"]
      // It exports nothing at warn level.
      if let sinkPort { arguments += ["--enable-trace", "--otlp-traces-endpoint", "127.0.0.1:\(sinkPort)"] }
    } else {
      arguments += ["--max-concurrent-requests", "4096", "--log-level", "warning"]
    }
  }
}

/// A port that was free a moment ago.
func freePort() throws(CompareError) -> UInt16 {
  do {
    let (descriptor, address) = try Sockets.listen(host: "127.0.0.1", port: 0)
    close(descriptor)
    return address.port
  } catch {
    throw .system(error)
  }
}

/// The path of this executable.
var ownPath: String {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
    guard let start = buffer.baseAddress else { return "" }
    let count = readlink("/proc/self/exe", start, buffer.count)
    return String(decoding: UnsafeRawBufferPointer(start: start, count: max(count, 0)), as: UTF8.self)
  }
}

/// The path of another of this package's executables, which are installed side by side.
func besideOwnPath(_ name: String) -> String {
  let own = ownPath
  return (own.lastIndex(of: "/").map { String(own[...$0]) } ?? "") + name
}

/// A new folder for logs and configurations.
func makeTemporaryFolder() throws(CompareError) -> String {
  let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
  var template = Array("\(base)/dynamo-bench.XXXXXX".utf8CString)
  let made = template.withUnsafeMutableBufferPointer { bytes in
    bytes.baseAddress.map { mkdtemp($0) != nil } ?? false
  }
  guard made else { throw .files(base) }
  return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Time outside of loops.
enum Clock {
  static var now: Nanoseconds { Machine.monotonicNanoseconds }

  static func sleep(milliseconds: UInt32) { usleep(milliseconds * 1_000) }
}
