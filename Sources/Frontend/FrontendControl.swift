// The way to a running frontend from other threads: new configuration for all its loops.

internal import EventLoop
internal import Transport

/// Changes a running frontend, from any thread. Keep it no longer than the frontend runs.
package final class FrontendControl: Sendable {
  struct Loop: Sendable {
    let mailbox: Mailbox
    let service: LoopBound<FrontendLoop>
    let server: LoopBound<HTTPServer>
  }

  private let shared: FrontendShared
  private let loops: [Loop]

  init(shared: FrontendShared, loops: [Loop]) {
    self.shared = shared
    self.loops = loops
  }

  /// Takes a new configuration. Host, port, backlog and the number of loops stay; each loop has the rest at its next
  /// wake-up, and reads the log filter anew. Connections that are open keep their certificate.
  package func adopt(_ configuration: FrontendConfiguration) {
    shared.adopt(configuration)
    for loop in loops {
      loop.mailbox.submit {
        loop.service.open(on: $0).adopt(configuration)
        loop.server.open(on: $0).adopt(configuration.server, security: configuration.security)
      }
    }
  }
}
