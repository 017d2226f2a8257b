// The trace store as its process sees it: started, reachable, fed, stopped.

internal import Base
internal import EventLoop
internal import Glibc
package import Logging
internal import Synchronization
package import Telemetry
internal import Transport

/// Why the store cannot start.
package struct TraceStoreStartError: Error, CustomStringConvertible {
  package let description: String
}

/// A trace store on a thread of its own.
package final class TraceStoreServer: SpanArchive {
  private struct Running {
    let thread: Thread
    let listeners: [Int32]
  }

  package let configuration: TraceStoreConfiguration
  /// Where each server listens.
  package let queryPort: UInt16
  package let otlpGRPCPort: UInt16
  package let otlpHTTPPort: UInt16
  /// Whether the store's file was put aside as damaged.
  private let fileWasDamaged: Bool
  private let mailbox: Mailbox
  private let target: LoopBound<StoreLoop>
  private let isClosed = StoreSink.ClosedFlag()
  private let running: Mutex<Running?>

  /// Opens the three ports and starts the thread.
  ///
  /// - Parameter registry: gets the store's metrics, and is what `/metrics` on the query port tells.
  package init(
    configuration: TraceStoreConfiguration, registry: MetricRegistry
  ) throws(TraceStoreStartError) {
    self.configuration = configuration
    var listeners: [Int32] = []
    do throws(TraceStoreStartError) {
      let query = try Self.listen(configuration.host, configuration.httpPort, &listeners)
      let grpc = try Self.listen(configuration.host, configuration.otlpGRPCPort, &listeners)
      let http = try Self.listen(configuration.host, configuration.otlpHTTPPort, &listeners)
      (queryPort, otlpGRPCPort, otlpHTTPPort) = (query.port, grpc.port, http.port)
      let status = StoreStatus()
      status.register(on: registry)
      let parent = try Self.prepare(configuration, status, listeners, registry)
      fileWasDamaged = parent.file?.wasDamaged ?? false
      mailbox = parent.loop.mailbox
      target = LoopBound(parent, of: parent.loop)
      let handed = Handed(parent: parent)
      let thread: Thread
      do throws(SystemError) {
        thread = try Thread(name: "trace-store") {
          handed.parent.start()
          handed.parent.loop.run()
        }
      } catch {
        throw TraceStoreStartError(description: "trace store: \(error)")
      }
      running = Mutex(Running(thread: thread, listeners: listeners))
    } catch {
      for listener in listeners { close(listener) }
      throw error
    }
  }

  /// Logs where the store listens.
  package func announce(_ logger: Logger) {
    if fileWasDamaged, let path = configuration.file {
      logger.warning(
        "the trace store's file was damaged and put aside", metadata: ["kept_as": "\(path).damaged"])
    }
    logger.info(
      "trace store listening",
      metadata: [
        "page": "\(pageURL)", "otlp_grpc": .stringConvertible(Int(otlpGRPCPort)),
        "otlp_http": .stringConvertible(Int(otlpHTTPPort)), "port": .stringConvertible(Int(queryPort)),
        "memory_mb": .stringConvertible(configuration.limits.bytesMax >> 20),
      ])
  }

  /// Where the page is, for a browser on this machine.
  package var pageURL: String {
    let any = ["0.0.0.0", "::", ""].contains(configuration.host)
    let host = any ? "127.0.0.1" : configuration.host
    return host.contains(":") ? "http://[\(host)]:\(queryPort)/" : "http://\(host):\(queryPort)/"
  }

  package func sink(resource: TelemetryResource, ledger: SpanLedger?) -> any SpanSink {
    StoreSink(resource: resource, ledger: ledger, mailbox: mailbox, target: target, isClosed: isClosed)
  }

  /// Takes in what waits, closes everything and ends the thread. Blocks the calling thread.
  package func stop() {
    guard let running = running.withLock({ $0.take() }) else { return }
    isClosed.value.store(true, ordering: .releasing)
    let target = target
    mailbox.submit { target.open(on: $0).stop() }
    running.thread.join()
    for listener in running.listeners { close(listener) }
  }

  package func receives(host: String, port: UInt16) -> Bool {
    guard port == otlpGRPCPort || port == otlpHTTPPort else { return false }
    let mine = SocketAddress.resolve(host: configuration.host, port: port).map(\.host)
    let isAny = mine.contains { $0 == "0.0.0.0" || $0 == "::" }
    return SocketAddress.resolve(host: host, port: port).contains { address in
      mine.contains(address.host) || (isAny && Self.isLoopback(address.host))
    }
  }

  private static func isLoopback(_ host: String) -> Bool { host == "::1" || host.hasPrefix("127.") }

  // MARK: Putting it together

  private static func listen(
    _ host: String, _ port: UInt16, _ listeners: inout [Int32]
  ) throws(TraceStoreStartError) -> SocketAddress {
    do throws(SystemError) {
      let (descriptor, address) = try Sockets.listen(host: host, port: port)
      listeners.append(descriptor)
      return address
    } catch {
      throw TraceStoreStartError(description: "trace store: cannot listen on \(host):\(port): \(error)")
    }
  }

  /// Makes the loop with the store, reads the file, and opens the servers.
  private static func prepare(
    _ configuration: TraceStoreConfiguration, _ status: StoreStatus, _ listeners: [Int32],
    _ registry: MetricRegistry
  ) throws(TraceStoreStartError) -> StoreLoop {
    let parent: StoreLoop
    do throws(SystemError) {
      let loop = try EventLoop(index: 0, seed: Machine.randomSeed())
      let store = SpanStore(limits: configuration.limits, seed: Machine.randomSeed())
      parent = StoreLoop(loop: loop, store: store, status: status)
      try open(parent, listeners, configuration, registry)
    } catch {
      throw TraceStoreStartError(description: "trace store: \(error)")
    }
    guard let path = configuration.file else { return parent }
    do throws(StoreFileError) {
      try parent.adopt(StoreFile(path: path, bytesMax: configuration.limits.bytesMax))
    } catch {
      parent.stop()
      throw TraceStoreStartError(description: "trace store file: \(error.description)")
    }
    return parent
  }

  /// Makes the servers; `listeners` are those of the query API, gRPC and OTLP/HTTP.
  private static func open(
    _ parent: StoreLoop, _ listeners: [Int32], _ configuration: TraceStoreConfiguration,
    _ registry: MetricRegistry
  ) throws(SystemError) {
    var limits = ServerLimits()
    limits.connectionsMax = 1_024
    let counters = ListenerCounters()
    registry.observe(.traceStoreConnectionsCut, .counter) {
      Double(counters.cutByMemory.load(ordering: .relaxed))
    }
    func server(_ application: any ServerApplication, _ listener: Int32) throws(SystemError) -> HTTPServer {
      let server = HTTPServer(
        loop: parent.loop, application: application, limits: limits, loads: LoopLoads(count: 1),
        counters: counters)
      try server.listen(on: listener)
      return server
    }
    parent.queryServer = try server(
      QueryApplication(
        parent, version: configuration.version, hosts: AllowedHosts(configuration.allowedHosts),
        registry: registry), listeners[0])
    let grpc = HTTP2Server(loop: parent.loop, application: OTLPCalls(parent), counters: counters)
    try grpc.listen(on: listeners[1])
    parent.grpcServer = grpc
    parent.otlpServer = try server(OTLPApplication(parent), listeners[2])
  }
}

/// Hands the loop's parts to their thread.
///
/// Unchecked because they are not Sendable: they are made on the starting thread, given away once before the new thread
/// runs, and used by that thread alone from then on.
private struct Handed: @unchecked Sendable {
  let parent: StoreLoop
}
