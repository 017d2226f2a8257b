// Undelivered messages on disk: written in an outage, given back oldest first, forgotten on a final answer.

import Base
import Glibc
import Telemetry

/// The files of one exporter and their books. Belongs to the exporter's thread; its calls block on the disk.
///
/// A process that ends leaves its files to the next one. They survive its crash; after a loss of power some may be
/// torn, which is noticed by their length and checksum.
final class ExportSpool {
  /// Times that a message may use up its tries while the receiver takes others: then it is the message that is at fault.
  static let roundsMax = 3

  private let folder: SpoolFolder
  private let configuration: SpoolConfiguration
  private let ledger: SpanLedger
  /// Oldest first.
  private var files: [SpoolFile] = []
  private(set) var bytes = 0
  /// Files that were no whole messages and were removed.
  private(set) var skippedFiles = 0
  /// Reads that failed and that nobody has been told of.
  private var readFailures = (count: 0, last: "")
  /// Messages that the receiver took since the start.
  private var accepted = 0

  /// Opens the folder of `service` and counts what an earlier process left there as recovered.
  init(_ configuration: SpoolConfiguration, service: String, ledger: SpanLedger) throws(SpoolError) {
    self.configuration = configuration
    self.ledger = ledger
    folder = try SpoolFolder.open(service, in: configuration.folder)
    for name in folder.names() {
      do throws(SpoolError) {
        let file = try SpoolFormat.head(of: name, in: folder.path)
        files.append(file)
        bytes += file.bytes
        ledger.recordRecovered(file.spanCount)
      } catch {
        // What cannot be read now stays for the next process.
        if case .damaged = error { skip(name) } else { noteFailure(error) }
      }
    }
    makeRoom(for: 0)
  }

  /// Where the files are.
  var path: String { folder.path }

  /// Number of files.
  var count: Int { files.count }

  private func skip(_ name: String) {
    folder.remove(name)
    skippedFiles += 1
  }

  /// Gives out how many reads have failed since the last call, and why the last one did.
  func takeReadFailures() -> (count: Int, last: String) {
    defer { readFailures = (0, "") }
    return readFailures
  }

  private func noteFailure(_ error: SpoolError) {
    readFailures = (readFailures.count + 1, "\(error)")
  }

  /// Keeps a message that is in memory. The oldest files give way; at `wallNanoseconds` since the Unix epoch.
  ///
  /// `claim` books its spans as spooled once they are on disk. When it returns false others have booked them
  /// meanwhile: the file goes, and so says the result.
  func add(
    _ message: ExportMessage, wallNanoseconds: UInt64, claim: () -> Bool
  ) throws(SpoolError) -> Bool {
    let size = SpoolFormat.headBytes + message.payloadBytes
    guard size <= configuration.bytesMax else { throw .system(call: "write", code: EFBIG) }
    makeRoom(for: size)
    let name = try folder.add(message, at: wallNanoseconds)
    guard claim() else {
      folder.remove(name)
      return false
    }
    files.append(SpoolFile(name: name, spanCount: message.spanCount, calls: message.calls, bytes: size))
    bytes += size
    return true
  }

  /// Drops the oldest files until one more of `size` bytes fits. A file that is being sent stays.
  private func makeRoom(for size: Int) {
    let isNew = size > 0 ? 1 : 0
    while bytes + size > configuration.bytesMax || files.count + isNew > configuration.filesMax {
      guard let oldest = files.first(where: { !$0.isInHand }) else { return }
      forget(oldest, sent: 0, dropped: oldest.spanCount, .spoolFull)
    }
  }

  /// Takes the oldest message that no lane has; those that the receiver has put off for long come last. Files that turn
  /// out to be damaged are removed and their spans counted; those that cannot be read are passed over from then on.
  func take() -> ExportMessage? {
    while let file = next {
      do throws(SpoolError) {
        let message = try SpoolFormat.message(of: file, in: folder.path)
        file.isInHand = true
        if file.acceptedBefore == nil { file.acceptedBefore = accepted }
        return message
      } catch {
        if case .system(_, let code) = error, code != ENOENT {
          noteFailure(error)
          // Descriptors or memory are scarce: no file is at fault, and each can be read later.
          if code == EMFILE || code == ENFILE || code == ENOMEM { return nil }
          file.isUnreadable = true
          continue
        }
        forget(file, sent: 0, dropped: file.spanCount, .spoolDamaged)
        skippedFiles += 1
      }
    }
    return nil
  }

  private var next: SpoolFile? {
    let ready = files.lazy.filter { !$0.isInHand && !$0.isUnreadable }
    return ready.first { $0.rounds < ExportSpool.roundsMax } ?? ready.first
  }

  /// Gives a message back whose tries are used up; it is dropped when the receiver takes others and never this one.
  ///
  /// - Parameter wasAnswered: whether the receiver itself put it off; without an answer nothing is held against it.
  func putBack(_ file: SpoolFile, wasAnswered: Bool) {
    file.isInHand = false
    guard wasAnswered else { return }
    file.rounds += 1
    if file.rounds >= ExportSpool.roundsMax, accepted > file.acceptedBefore ?? accepted {
      forget(file, sent: 0, dropped: file.spanCount, .deadline)
    }
  }

  /// Ends the life of a file by what became of its spans.
  func forget(_ file: SpoolFile, sent: Int, dropped: Int, _ reason: SpanDropReason) {
    guard let index = files.firstIndex(where: { $0 === file }) else { return }
    files.remove(at: index)
    bytes -= file.bytes
    folder.remove(file.name)
    ledger.recordUnspooled(file.spanCount)
    ledger.recordSent(sent)
    ledger.recordDropped(dropped, reason)
  }

  /// Notes that the receiver took a message, from here or not.
  func receiverAccepted() { accepted += 1 }
}
