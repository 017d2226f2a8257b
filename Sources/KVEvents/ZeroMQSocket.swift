// One ZeroMQ socket that never blocks, for a loop that waits on descriptors.

internal import Base
internal import Glibc

/// A received message: its frames in one block of memory that is used again.
package struct ZeroMQMessage: ~Copyable {
  /// Frames that are kept; a message with more is received whole and marked as too long.
  package static let framesMax = 8

  private var content = ByteBuffer()
  private var ends: [Int] = []
  /// True when the message had more frames than are kept.
  package private(set) var hasTooManyFrames = false

  /// An empty message.
  package init() {}

  /// Number of frames kept.
  package var count: Int { ends.count }

  /// Bytes of all frames kept.
  package var byteCount: Int { content.count }

  /// Frame `index`; valid until the next message is received into this one.
  package subscript(index: Int) -> UnsafeRawBufferPointer {
    content.readable.slice((index == 0 ? 0 : ends[index - 1])..<ends[index])
  }

  mutating func removeAll() {
    // One giant message must not hold its memory for good.
    if content.count > 1 << 20 { content.release() } else { content.removeAll() }
    ends.removeAll(keepingCapacity: true)
    hasTooManyFrames = false
  }

  mutating func append(_ frame: UnsafeRawBufferPointer) {
    guard ends.count < Self.framesMax else {
      hasTooManyFrames = true
      return
    }
    content.append(frame)
    ends.append(content.count)
  }
}

/// What a socket does with its peers (numbers of zmq.h).
package enum ZeroMQSocketKind: Int32, Sendable {
  case publish = 1
  case subscribe = 2
  case dealer = 5
  case router = 6
}

/// Bounds and times of a socket.
package struct ZeroMQSocketOptions: Sendable, Equatable {
  /// Messages that wait to be received, for each peer; past it the peer's messages are dropped or held back.
  package var receiveQueueMax: Int32 = 4096
  /// Messages that wait to be sent, for each peer; past it they are dropped.
  package var sendQueueMax: Int32 = 4096
  /// Bytes of the largest frame; a peer that sends a larger one is disconnected.
  package var frameBytesMax: Int64 = 16 << 20
  /// First and longest wait before a lost peer is called again, in milliseconds.
  package var reconnectMilliseconds: (first: Int32, longest: Int32) = (100, 5000)

  /// The defaults.
  package init() {}

  package static func == (left: Self, right: Self) -> Bool {
    left.receiveQueueMax == right.receiveQueueMax && left.sendQueueMax == right.sendQueueMax
      && left.frameBytesMax == right.frameBytesMax
      && left.reconnectMilliseconds == right.reconnectMilliseconds
  }
}

/// One socket. Confined to the thread that made it.
///
/// Its descriptor tells of news, not of messages: it becomes readable once, and only a call that finds no message left
/// arms it again. So whoever waits on it must receive until ``receive(into:)`` says false, also after each send.
package final class ZeroMQSocket {
  private let context: ZeroMQContext
  private let handle: ZeroMQLibrary.Handle
  /// libzmq's `zmq_msg_t`: 64 bytes, aligned as a pointer.
  private let frame = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
  /// Becomes readable when there is news.
  package let descriptor: Int32

  private var library: ZeroMQLibrary { context.library }

  /// Makes a socket that is neither bound nor connected.
  package init(
    _ kind: ZeroMQSocketKind, context: ZeroMQContext, options: ZeroMQSocketOptions = ZeroMQSocketOptions()
  ) throws(ZeroMQError) {
    let library = context.library
    guard let handle = library.makeSocket(context.handle, kind.rawValue) else {
      frame.deallocate()
      throw library.failure(of: "zmq_socket")
    }
    self.context = context
    self.handle = handle
    let settings: [(Option, Int32)] = [
      (.linger, 0), (.receiveQueueMax, options.receiveQueueMax), (.sendQueueMax, options.sendQueueMax),
      (.reconnectFirst, options.reconnectMilliseconds.first),
      (.reconnectLongest, options.reconnectMilliseconds.longest),
      // A dead peer is noticed within a minute.
      (.keepAlive, 1), (.keepAliveIdle, 30), (.keepAliveInterval, 10), (.keepAliveCount, 3),
    ]
    var size = MemoryLayout<Int32>.size
    var descriptor: Int32 = -1
    var isSet = true
    for (option, value) in settings {
      isSet = isSet && withUnsafeBytes(of: value) { Self.set(option, $0, handle, library) }
    }
    isSet =
      isSet && withUnsafeBytes(of: options.frameBytesMax) { Self.set(.frameBytesMax, $0, handle, library) }
    if isSet { isSet = library.getOption(handle, Option.descriptor.rawValue, &descriptor, &size) == 0 }
    self.descriptor = descriptor
    if !isSet { throw library.failure(of: "zmq_setsockopt") }
  }

  deinit {
    _ = library.close(handle)
    frame.deallocate()
  }

  /// Listens at `address`, as `tcp://*:5557` or `ipc://path`; port `*` takes a free one.
  package func bind(_ address: String) throws(ZeroMQError) {
    allowVersion6(for: address)
    guard library.bind(handle, address) == 0 else { throw library.failure(of: "zmq_bind \(address)") }
  }

  /// Connects to `address` now and again whenever the connection is lost.
  package func connect(_ address: String) throws(ZeroMQError) {
    allowVersion6(for: address)
    guard library.connect(handle, address) == 0 else { throw library.failure(of: "zmq_connect \(address)") }
  }

  /// Leaves `address`; what was received from it and not read is dropped. Nothing happens when not connected.
  package func disconnect(_ address: String) { _ = library.disconnect(handle, address) }

  /// Asks publishers for messages whose first frame begins with `prefix`; all when it is empty.
  package func subscribe(_ prefix: String) throws(ZeroMQError) {
    var prefix = prefix
    let isSet = prefix.withUTF8 { Self.set(.subscribe, UnsafeRawBufferPointer($0), handle, library) }
    if !isSet { throw library.failure(of: "zmq_setsockopt SUBSCRIBE") }
  }

  /// The address that the last ``bind(_:)`` took, with the port that was found.
  package var boundAddress: String {
    var size = 512
    return withUnsafeTemporaryAllocation(byteCount: size, alignment: 1) { room in
      guard library.getOption(handle, Option.lastEndpoint.rawValue, room.baseAddress, &size) == 0, size > 0
      else { return "" }
      return String(decoding: room[0..<size - 1], as: UTF8.self)
    }
  }

  /// Takes in what happened to the socket, so that its descriptor is armed again; for sockets that only send.
  package func takeNews() {
    var events: Int32 = 0
    var size = MemoryLayout<Int32>.size
    _ = library.getOption(handle, Option.events.rawValue, &events, &size)
  }

  /// Receives one whole message into `message`; false when none waits.
  package func receive(into message: inout ZeroMQMessage) throws(ZeroMQError) -> Bool {
    message.removeAll()
    var isFirst = true
    while true {
      guard library.initMessage(frame) == 0 else { throw library.failure(of: "zmq_msg_init") }
      defer { _ = library.closeMessage(frame) }
      if library.receiveMessage(frame, handle, Self.dontWait) < 0 {
        // Frames of a message arrive together, so only the first may be missing.
        if library.errorCode() == EINTR { continue }
        if library.errorCode() == EAGAIN, isFirst { return false }
        throw library.failure(of: "zmq_msg_recv")
      }
      isFirst = false
      message.append(
        UnsafeRawBufferPointer(start: library.messageData(frame), count: library.messageSize(frame)))
      if library.messageHasMore(frame) == 0 { return true }
    }
  }

  /// Sends one message. False when the queue is full or the client that a router names is gone: it is not sent.
  package func send(message frames: [[UInt8]]) throws(ZeroMQError) -> Bool {
    for (index, frame) in frames.enumerated() {
      // The queue's room is asked for at the first frame, so a message goes whole or not at all.
      let error = frame.withUnsafeBytes { send($0, isLast: index == frames.count - 1) }
      if error == EAGAIN || error == EHOSTUNREACH { return false }
      if error != 0 { throw library.failure(of: "zmq_send") }
    }
    return true
  }

  /// Sends one message, whose last frame counts in ``ZeroMQContext/unsent`` with `overhead` bytes more until libzmq has
  /// handed it on or dropped it. False as ``send(message:)``.
  func send(counted frames: [[UInt8]], overhead: Int) throws(ZeroMQError) -> Bool {
    guard let last = frames.last else { return true }
    for frame in frames.dropLast() {
      let error = frame.withUnsafeBytes { send($0, isLast: false) }
      if error == EAGAIN || error == EHOSTUNREACH { return false }
      if error != 0 { throw library.failure(of: "zmq_send") }
    }
    let lent = LentFrame(last, overhead: overhead, in: context.unsent)
    let hint = Unmanaged.passRetained(lent).toOpaque()
    guard library.lendMessage(frame, lent.bytes.baseAddress, last.count, LentFrame.release, hint) == 0 else {
      LentFrame.release(nil, hint)
      throw library.failure(of: "zmq_msg_init_data")
    }
    while library.sendMessage(frame, handle, Self.dontWait) < 0 {
      if library.errorCode() == EINTR { continue }
      let failure = library.failure(of: "zmq_msg_send")
      _ = library.closeMessage(frame)
      throw failure
    }
    return true
  }

  /// Sends one frame; returns errno.
  private func send(_ frame: UnsafeRawBufferPointer, isLast: Bool) -> Int32 {
    while library.send(handle, frame.baseAddress, frame.count, Self.dontWait | (isLast ? 0 : Self.sendMore))
      < 0
    {
      let error = library.errorCode()
      if error != EINTR { return error }
    }
    return 0
  }

  /// Without it libzmq refuses IPv6 addresses; with it, it writes IPv4 ones as mapped.
  private func allowVersion6(for address: String) {
    if address.contains("[") {
      _ = withUnsafeBytes(of: Int32(1)) { Self.set(.version6, $0, handle, library) }
    }
  }

  private static let dontWait: Int32 = 1
  private static let sendMore: Int32 = 2

  /// Numbers of zmq.h.
  private enum Option: Int32 {
    case subscribe = 6
    case descriptor = 14
    case events = 15
    case linger = 17
    case reconnectFirst = 18
    case reconnectLongest = 21
    case frameBytesMax = 22
    case sendQueueMax = 23
    case receiveQueueMax = 24
    case lastEndpoint = 32
    case keepAlive = 34
    case keepAliveCount = 35
    case keepAliveIdle = 36
    case keepAliveInterval = 37
    case version6 = 42
  }

  private static func set(
    _ option: Option, _ value: UnsafeRawBufferPointer, _ handle: ZeroMQLibrary.Handle,
    _ library: ZeroMQLibrary
  ) -> Bool {
    library.setOption(handle, option.rawValue, value.baseAddress, value.count) == 0
  }
}

/// A frame's bytes while libzmq has them. Freed by libzmq's I/O thread.
///
/// `@unchecked`: written once before it is shared; what follows is its end alone.
private final class LentFrame: @unchecked Sendable {
  let bytes: UnsafeMutableRawBufferPointer
  private let counted: Int
  private let unsent: UnsentBytes

  init(_ content: [UInt8], overhead: Int, in unsent: UnsentBytes) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(content.count, 1), alignment: 16)
    content.withUnsafeBytes { copy.copyMemory(from: $0) }
    bytes = copy
    counted = content.count + overhead
    self.unsent = unsent
    unsent.add(counted)
  }

  deinit {
    bytes.deallocate()
    unsent.add(-counted)
  }

  /// libzmq's `zmq_free_fn`: ends the reference that `hint` is.
  static let release: @convention(c) (UnsafeMutableRawPointer?, UnsafeMutableRawPointer?) -> Void = {
    _, hint in
    if let hint { Unmanaged<LentFrame>.fromOpaque(hint).release() }
  }
}
