// libzmq, loaded when a feed of cache events is wanted, and absent otherwise.

internal import Glibc
internal import Synchronization

/// What went wrong with ZeroMQ.
package enum ZeroMQError: Error, Sendable, Equatable {
  /// The library cannot be loaded; `reason` is the loader's.
  case notInstalled(reason: String)
  /// A call failed: its name, errno, and the library's words for it.
  case failed(call: String, code: Int32, reason: String)
}

extension ZeroMQError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notInstalled(let reason): "libzmq cannot be loaded: \(reason)"
    case .failed(let call, _, let reason): "\(call): \(reason)"
    }
  }
}

/// The functions of libzmq 4.1 and later that are used, found at run time: the library is no dependency of the build.
///
/// `@unchecked`: function addresses of a library that is never unloaded.
struct ZeroMQLibrary: @unchecked Sendable {
  typealias Handle = UnsafeMutableRawPointer

  let makeContext: @convention(c) () -> Handle?
  let endContext: @convention(c) (Handle?) -> Int32
  let makeSocket: @convention(c) (Handle?, Int32) -> Handle?
  let close: @convention(c) (Handle?) -> Int32
  let setOption: @convention(c) (Handle?, Int32, UnsafeRawPointer?, Int) -> Int32
  let getOption:
    @convention(c) (Handle?, Int32, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> Int32
  let bind: @convention(c) (Handle?, UnsafePointer<CChar>?) -> Int32
  let connect: @convention(c) (Handle?, UnsafePointer<CChar>?) -> Int32
  let disconnect: @convention(c) (Handle?, UnsafePointer<CChar>?) -> Int32
  let send: @convention(c) (Handle?, UnsafeRawPointer?, Int, Int32) -> Int32
  let initMessage: @convention(c) (Handle?) -> Int32
  let lendMessage:
    @convention(c) (
      Handle?, UnsafeMutableRawPointer?, Int,
      (@convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void)?, UnsafeMutableRawPointer?
    ) -> Int32
  let sendMessage: @convention(c) (Handle?, Handle?, Int32) -> Int32
  let receiveMessage: @convention(c) (Handle?, Handle?, Int32) -> Int32
  let messageData: @convention(c) (Handle?) -> UnsafeMutableRawPointer?
  let messageSize: @convention(c) (Handle?) -> Int
  let messageHasMore: @convention(c) (Handle?) -> Int32
  let closeMessage: @convention(c) (Handle?) -> Int32
  let errorCode: @convention(c) () -> Int32
  let errorText: @convention(c) (Int32) -> UnsafePointer<CChar>?

  /// The library, or why there is none: tried once in a process.
  static let shared: Result<ZeroMQLibrary, ZeroMQError> = load("libzmq.so.5")

  /// Loads the library under `name`.
  static func load(_ name: String) -> Result<ZeroMQLibrary, ZeroMQError> {
    guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
      return .failure(.notInstalled(reason: dlerror().map { String(cString: $0) } ?? name))
    }
    guard let functions = ZeroMQLibrary(library) else {
      return .failure(.notInstalled(reason: "\(name) lacks a function"))
    }
    return .success(functions)
  }

  private init?(_ library: Handle) {
    func find<Function>(_ name: String, as type: Function.Type) -> Function? {
      dlsym(library, name).map { unsafeBitCast($0, to: type) }
    }
    guard let makeContext = find("zmq_ctx_new", as: type(of: makeContext)),
      let endContext = find("zmq_ctx_term", as: type(of: endContext)),
      let makeSocket = find("zmq_socket", as: type(of: makeSocket)),
      let close = find("zmq_close", as: type(of: close)),
      let setOption = find("zmq_setsockopt", as: type(of: setOption)),
      let getOption = find("zmq_getsockopt", as: type(of: getOption)),
      let bind = find("zmq_bind", as: type(of: bind)),
      let connect = find("zmq_connect", as: type(of: connect)),
      let disconnect = find("zmq_disconnect", as: type(of: disconnect)),
      let send = find("zmq_send", as: type(of: send)),
      let initMessage = find("zmq_msg_init", as: type(of: initMessage)),
      let lendMessage = find("zmq_msg_init_data", as: type(of: lendMessage)),
      let sendMessage = find("zmq_msg_send", as: type(of: sendMessage)),
      let receiveMessage = find("zmq_msg_recv", as: type(of: receiveMessage)),
      let messageData = find("zmq_msg_data", as: type(of: messageData)),
      let messageSize = find("zmq_msg_size", as: type(of: messageSize)),
      let messageHasMore = find("zmq_msg_more", as: type(of: messageHasMore)),
      let closeMessage = find("zmq_msg_close", as: type(of: closeMessage)),
      let errorCode = find("zmq_errno", as: type(of: errorCode)),
      let errorText = find("zmq_strerror", as: type(of: errorText))
    else { return nil }
    self.makeContext = makeContext
    self.endContext = endContext
    self.makeSocket = makeSocket
    self.close = close
    self.setOption = setOption
    self.getOption = getOption
    self.bind = bind
    self.connect = connect
    self.disconnect = disconnect
    self.send = send
    self.initMessage = initMessage
    self.lendMessage = lendMessage
    self.sendMessage = sendMessage
    self.receiveMessage = receiveMessage
    self.messageData = messageData
    self.messageSize = messageSize
    self.messageHasMore = messageHasMore
    self.closeMessage = closeMessage
    self.errorCode = errorCode
    self.errorText = errorText
  }

  /// The failure that the last call of this thread left.
  func failure(of call: String) -> ZeroMQError {
    let code = errorCode()
    return .failed(call: call, code: code, reason: errorText(code).map { String(cString: $0) } ?? "\(code)")
  }
}

/// Bytes of counted messages that libzmq still holds, because their receivers have not read them. From any thread.
final class UnsentBytes: Sendable {
  private let sum = Atomic<Int>(0)

  var count: Int { sum.load(ordering: .relaxed) }

  func add(_ bytes: Int) { sum.add(bytes, ordering: .relaxed) }
}

/// What sockets share: libzmq's one I/O thread, which blocks all signals and touches nothing of ours.
///
/// Sockets keep their context; it ends when the last of them is gone. May be used from any thread.
///
/// `@unchecked`: libzmq's contexts are thread-safe, and the pointer never changes.
package final class ZeroMQContext: @unchecked Sendable {
  let library: ZeroMQLibrary
  let handle: ZeroMQLibrary.Handle
  /// What the sockets hold of counted messages.
  let unsent = UnsentBytes()

  /// Starts ZeroMQ, or says why it cannot be used.
  package init() throws(ZeroMQError) {
    library = try ZeroMQLibrary.shared.get()
    guard let handle = library.makeContext() else { throw library.failure(of: "zmq_ctx_new") }
    self.handle = handle
  }

  deinit {
    // Does not wait: all sockets are closed, and none lingers. A signal may interrupt it.
    while library.endContext(handle) != 0, library.errorCode() == EINTR {}
  }

  /// Nil where libzmq can be loaded; else why not.
  package static var unavailableReason: String? {
    if case .failure(let error) = ZeroMQLibrary.shared { return error.description }
    return nil
  }
}
