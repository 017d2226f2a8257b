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
        skip(name)
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

  /// Keeps a message that is in memory. The oldest files give way; at `wallNanoseconds` since the Unix epoch.
  ///
  /// The caller takes its spans out of its own books when this returns, and not when it throws.
  func add(_ message: ExportMessage, wallNanoseconds: UInt64) throws(SpoolError) {
    let size = SpoolFormat.headBytes + message.payloadBytes
    guard size <= configuration.bytesMax else { throw .system(call: "write", code: EFBIG) }
    makeRoom(for: size)
    let name = try folder.add(message, at: wallNanoseconds)
    files.append(SpoolFile(name: name, spanCount: message.spanCount, calls: message.calls, bytes: size))
    bytes += size
    ledger.recordSpooled(message.spanCount)
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
  /// out to be damaged are removed and their spans counted.
  func take() -> ExportMessage? {
    while let file = next {
      do throws(SpoolError) {
        let message = try SpoolFormat.message(of: file, in: folder.path)
        file.isInHand = true
        if file.acceptedBefore == nil { file.acceptedBefore = accepted }
        return message
      } catch {
        // The disk may be in trouble, or descriptors scarce: the file can be read later.
        if case .system(_, let code) = error, code != ENOENT { return nil }
        forget(file, sent: 0, dropped: file.spanCount, .spoolDamaged)
        skippedFiles += 1
      }
    }
    return nil
  }

  private var next: SpoolFile? {
    files.first { !$0.isInHand && $0.rounds < ExportSpool.roundsMax } ?? files.first { !$0.isInHand }
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
