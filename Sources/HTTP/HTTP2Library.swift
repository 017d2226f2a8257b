// What every owner of a libnghttp2 session does with the library: make the handle, announce its settings, check codes.

internal import CNghttp2

/// Calls into libnghttp2 that all sessions share.
enum HTTP2Library {
  /// What a session tells its peer in its first SETTINGS, and the connection's window.
  struct Announcement {
    let streamWindowBytes: Int
    let connectionWindowBytes: Int
    let headerListBytes: Int
    /// Streams that the peer may open at the same time (server role).
    let concurrentStreams: Int
  }

  /// Makes a session; the caller deletes it. `user` reaches the callbacks unretained: the session's owner keeps it for
  /// as long. `adjust` adds options to the common ones. Throws ``HTTP2Error/library(call:code:)`` when the library
  /// cannot.
  static func makeSession(
    isServer: Bool, user: UnsafeMutableRawPointer, installing install: (OpaquePointer) -> Void,
    adjusting adjust: (OpaquePointer) -> Void = { _ in }
  ) throws(HTTP2Error) -> OpaquePointer {
    var callbacks: OpaquePointer?
    var option: OpaquePointer?
    defer {
      nghttp2_session_callbacks_del(callbacks)
      nghttp2_option_del(option)
    }
    var code = nghttp2_session_callbacks_new(&callbacks)
    guard code == 0, let callbacks else { throw .library(call: "nghttp2_session_callbacks_new", code: code) }
    code = nghttp2_option_new(&option)
    guard code == 0, let option else { throw .library(call: "nghttp2_option_new", code: code) }
    install(callbacks)
    // Nothing may be pushed to us, also in the moment before our settings arrive.
    nghttp2_option_set_max_reserved_remote_streams(option, 0)
    nghttp2_option_set_no_closed_streams(option, 1)
    adjust(option)
    var handle: OpaquePointer?
    code =
      isServer
      ? nghttp2_session_server_new2(&handle, callbacks, user, option)
      : nghttp2_session_client_new2(&handle, callbacks, user, option)
    guard code == 0, let handle else { throw .library(call: "nghttp2_session_new", code: code) }
    return handle
  }

  /// Submits the session's first SETTINGS, and opens the connection's window where it is wider than the protocol's.
  static func announce(
    _ announcement: Announcement, isServer: Bool, on handle: OpaquePointer
  ) throws(HTTP2Error) {
    var entries = [
      entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, announcement.streamWindowBytes),
      entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, announcement.headerListBytes),
    ]
    if isServer {
      entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, announcement.concurrentStreams))
    } else {
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
    }
    try check(
      nghttp2_submit_settings(handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count),
      "nghttp2_submit_settings")
    guard announcement.connectionWindowBytes > 65_535 else { return }
    try check(
      nghttp2_session_set_local_window_size(
        handle, 0, 0, Int32(clamping: announcement.connectionWindowBytes)),
      "nghttp2_session_set_local_window_size")
  }

  /// Throws ``HTTP2Error/library(call:code:)`` for any code but 0.
  static func check(_ code: Int32, _ call: StaticString) throws(HTTP2Error) {
    if code != 0 { throw .library(call: call, code: code) }
  }

  private static func entry(_ id: nghttp2_settings_id, _ value: Int) -> nghttp2_settings_entry {
    nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(clamping: value))
  }
}
