// Hears of changes in folders from the kernel (inotify(7)), so that nobody has to look again and again.

internal import CSystem
internal import Glibc

/// Calls back when an entry of a watched folder appears, leaves or was written. What it was is not told: whoever watches
/// looks for himself, and so loses nothing when the kernel's queue overflows. Loop-confined.
package final class FolderWatch: EventHandler {
  /// Folders watched at most; changes in further ones are not heard of.
  package static let foldersMax = 1_024

  /// The inotify descriptor.
  package let descriptor: Int32
  private let loop: EventLoop
  private let changed: () -> Void
  private var registration: Registration?
  private var watches: Set<Int32> = []
  private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * 1024, alignment: 8)

  /// Watches nothing yet. Throws where the kernel has no instance left (fs.inotify.max_user_instances).
  package init(on loop: EventLoop, changed: @escaping () -> Void) throws(SystemError) {
    self.loop = loop
    self.changed = changed
    descriptor = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
    guard descriptor >= 0 else { throw SystemError("inotify_init1", csystem_errno()) }
    do throws(SystemError) {
      registration = try loop.registerInput(descriptor, self)
    } catch {
      _ = Glibc.close(descriptor)
      throw error
    }
  }

  deinit { room.deallocate() }

  /// Watches these folders and no others; one that is not there is left out. True when one was not watched before: what
  /// happened in it since it was looked at was not heard of.
  package func follow(_ paths: [String]) -> Bool {
    guard registration != nil else { return false }
    // A touched file is no news, so IN_ATTRIB is not among them: records are touched all the time.
    let events = UInt32(
      IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF
        | IN_ONLYDIR)
    var present: Set<Int32> = []
    for path in paths.prefix(Self.foldersMax) {
      // A folder that is watched already keeps its number.
      let watch = inotify_add_watch(descriptor, path, events)
      if watch >= 0 { present.insert(watch) }
    }
    for gone in watches.subtracting(present) { _ = inotify_rm_watch(descriptor, gone) }
    let isNew = !present.isSubset(of: watches)
    watches = present
    return isNew
  }

  package func ready(_ readiness: Readiness) {
    while read(descriptor, room.baseAddress, room.count) > 0 {}
    changed()
  }

  /// Stops; harmless twice.
  package func close() {
    guard let registration else { return }
    self.registration = nil
    loop.deregister(registration)
    _ = Glibc.close(descriptor)
  }
}
