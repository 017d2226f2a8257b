// Encodes texts on one thread: cuts added tokens out, normalizes, splits, and merges what it has not met before.

internal import Base
internal import CBytes
internal import Glibc

/// A thread's encoder for one tokenizer, with its caches and working memory (3.2 MiB when warm). Not for two threads.
package final class TextEncoder {
  package let tokenizer: Tokenizer
  let prefixCache: EncodedPrefixCache?
  /// Leaves text as it is where the tokenizer's file asks for normalization form C, as llama.cpp does.
  package var skipsNormalization = false

  let pieces = PieceCache()
  private var work = MergeWorkspace()
  private var normalizer = Normalizer()
  /// Text changed by normalization, and by what is put before it.
  private var normalized = ByteBuffer()
  private var formed = ByteBuffer()
  /// A stretch in which added tokens are looked for once more, behind normalization.
  private var stretch = ByteBuffer()
  private var segments: [TextSegment] = []
  private var innerSegments: [TextSegment] = []
  var failure: TokenizerError?

  /// Working memory over this many bytes is given back after a text.
  private static let keptBytesMax = 1 << 20

  /// An encoder that also looks texts up in `prefixCache`, which several threads and tokenizers may share.
  package init(_ tokenizer: Tokenizer, prefixCache: EncodedPrefixCache? = nil) {
    self.tokenizer = tokenizer
    self.prefixCache = prefixCache
  }

  /// Appends the ids of `text` to `ids`; with `addSpecialTokens` also those that the file puts before and behind a text.
  ///
  /// Throws for invalid UTF-8 and for texts beyond ``TokenizerLimits``; `ids` is as before then.
  package func encode(
    _ text: UnsafeRawBufferPointer, addSpecialTokens: Bool = false, into ids: inout TokenIDs
  ) throws(TokenizerError) {
    let before = ids.count
    if let base = text.bindMemory(to: UInt8.self).baseAddress {
      let valid = Int(cbytes_utf8_prefix(base, text.count))
      guard valid == text.count else { throw .invalidUTF8(offset: valid) }
    }
    failure = nil
    if addSpecialTokens { for id in tokenizer.prefix { ids.append(id) } }
    encode(valid: text, into: &ids)
    if addSpecialTokens { for id in tokenizer.suffix { ids.append(id) } }
    trim()
    if let failure {
      ids.truncate(to: before)
      throw failure
    }
  }

  /// The ids of `text`; for tests and cold paths.
  package func encode(_ text: String, addSpecialTokens: Bool = false) throws(TokenizerError) -> [UInt32] {
    var ids = TokenIDs()
    let bytes = Array(text.utf8)
    var thrown: TokenizerError?
    bytes.withUnsafeBytes { bytes in
      do throws(TokenizerError) {
        try encode(bytes, addSpecialTokens: addSpecialTokens, into: &ids)
      } catch {
        thrown = error
      }
    }
    if let thrown { throw thrown }
    return ids.array
  }

  private var normalizes: Bool { tokenizer.form.normalizes && !skipsNormalization }

  private func trim() {
    work.trim()
    if normalized.capacity > TextEncoder.keptBytesMax { normalized.release() }
    if formed.capacity > TextEncoder.keptBytesMax { formed.release() }
    if stretch.capacity > TextEncoder.keptBytesMax { stretch.release() }
  }

  // MARK: Segments

  private func encode(valid text: UnsafeRawBufferPointer, into ids: inout TokenIDs) {
    guard !tokenizer.addedTokens.isEmpty else {
      encode(plain: text, isBeginning: true, into: &ids)
      return
    }
    segments.removeAll(keepingCapacity: true)
    tokenizer.addedTokens.split(text, 0, text.count, into: &segments)
    for index in segments.indices {
      let segment = segments[index]
      if let token = segment.token {
        ids.append(token)
      } else {
        encode(plain: text.slice(segment.start..<segment.end), isBeginning: segment.start == 0, into: &ids)
      }
    }
  }

  /// Encodes text between added tokens; those that are looked for in normalized text may still be in it.
  private func encode(plain text: UnsafeRawBufferPointer, isBeginning: Bool, into ids: inout TokenIDs) {
    guard !text.isEmpty else { return }
    guard !tokenizer.normalizedTokens.isEmpty else {
      encodeStretch(text, isBeginning: isBeginning, isNormalized: false, into: &ids)
      return
    }
    let form = tokenizer.form
    if !normalizes, !form.barsAreNormalized {
      encodeInner(text, isBeginning: isBeginning, into: &ids)
      return
    }
    var whole = ByteBuffer()
    swap(&whole, &stretch)
    whole.removeAll()
    if normalizes {
      normalizer.append(text, to: &whole)
    } else {
      if form.prefix == .bar { whole.append(0x20) }
      whole.append(replacingLowerBars: text)
    }
    encodeInner(whole.readable, isBeginning: isBeginning, into: &ids)
    swap(&whole, &stretch)
  }

  private func encodeInner(_ text: UnsafeRawBufferPointer, isBeginning: Bool, into ids: inout TokenIDs) {
    innerSegments.removeAll(keepingCapacity: true)
    tokenizer.normalizedTokens.split(text, 0, text.count, into: &innerSegments)
    for index in innerSegments.indices {
      let segment = innerSegments[index]
      if let token = segment.token {
        ids.append(token)
      } else {
        let isFirst = isBeginning && segment.start == 0
        encodeStretch(
          text.slice(segment.start..<segment.end), isBeginning: isFirst, isNormalized: true, into: &ids)
      }
    }
  }

  // MARK: Stretches and chunks

  /// Encodes text without added tokens, chunk by chunk when there is a cache for chunks.
  private func encodeStretch(
    _ text: UnsafeRawBufferPointer, isBeginning: Bool, isNormalized: Bool, into ids: inout TokenIDs
  ) {
    var hasPrefix = takesPrefix(text, isBeginning: isBeginning, isNormalized: isNormalized)
    guard let prefixCache, text.count >= EncodedPrefixCache.chunkBytesMin else {
      encodeChunk(text, hasPrefix: hasPrefix, isNormalized: isNormalized, into: &ids)
      return
    }
    var start = 0
    while start < text.count {
      let end = tokenizer.cuts.next(in: text, behind: start + EncodedPrefixCache.chunkBytes)
      let chunk = text.slice(start..<end)
      let key = prefixCache.key(
        chunk, tokenizer, hasPrefix: hasPrefix, isNormalized: isNormalized || skipsNormalization)
      if !prefixCache.append(key, chunk, to: &ids) {
        let before = ids.count
        encodeChunk(chunk, hasPrefix: hasPrefix, isNormalized: isNormalized, into: &ids)
        if failure == nil { prefixCache.remember(key, chunk, ids.buffer.suffix(from: before)) }
      }
      hasPrefix = false
      start = end
    }
  }

  private func takesPrefix(_ text: UnsafeRawBufferPointer, isBeginning: Bool, isNormalized: Bool) -> Bool {
    switch tokenizer.form.prefix {
    case .nothing: false
    case .bar: !isNormalized
    case .barUnlessPresent: !startsWithBar(text)
    case .barAtBeginning: isBeginning && !startsWithBar(text)
    case .spaceUnlessPresent: text.first != 0x20
    }
  }

  private func startsWithBar(_ text: UnsafeRawBufferPointer) -> Bool {
    text.first == 0x20 || (text.count >= 3 && text[0] == 0xe2 && text[1] == 0x96 && text[2] == 0x81)
  }

  /// Normalizes a chunk where it needs it, and encodes its pieces.
  private func encodeChunk(
    _ text: UnsafeRawBufferPointer, hasPrefix: Bool, isNormalized: Bool, into ids: inout TokenIDs
  ) {
    if normalizes, !isNormalized, !Normalizer.isNormalized(text) {
      var buffer = ByteBuffer()
      swap(&buffer, &normalized)
      buffer.removeAll()
      normalizer.append(text, to: &buffer)
      encodeFormed(buffer.readable, hasPrefix: hasPrefix, into: &ids)
      swap(&buffer, &normalized)
    } else {
      encodeFormed(text, hasPrefix: hasPrefix, into: &ids)
    }
  }

  private func encodeFormed(_ text: UnsafeRawBufferPointer, hasPrefix: Bool, into ids: inout TokenIDs) {
    let hasBars = tokenizer.form.usesBars && LowerBar.find(in: text, from: 0) != nil
    guard hasPrefix || hasBars else {
      encodePieces(text, into: &ids)
      return
    }
    var buffer = ByteBuffer()
    swap(&buffer, &formed)
    buffer.removeAll()
    if hasPrefix { buffer.append(0x20) }
    if hasBars { buffer.append(replacingLowerBars: text) } else { buffer.append(text) }
    encodePieces(buffer.readable, into: &ids)
    swap(&buffer, &formed)
  }

  // MARK: Pieces

  private func encodePieces(_ text: UnsafeRawBufferPointer, into ids: inout TokenIDs) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    let scan = ScanText(base: base, end: text.count)
    switch tokenizer.plan {
    case .known(.gpt2): encode(scan, GPT2Rules.self, into: &ids)
    case .known(.qwen2): encode(scan, Qwen2Rules.self, into: &ids)
    case .known(.qwen35): encode(scan, Qwen35Rules.self, into: &ids)
    case .known(.llama3): encode(scan, Llama3Rules.self, into: &ids)
    case .known(.o200k): encode(scan, O200KRules.self, into: &ids)
    case .known(.tekken): encode(scan, TekkenRules.self, into: &ids)
    case .gpt2Digits: encode(scan, GPT2DigitsRules.self, into: &ids)
    case .deepSeek: encodeDeepSeek(scan, into: &ids)
    case .words, .bars: encodeBars(scan, into: &ids)
    case .whole: encodePiece(base, 0, text.count, text.count, into: &ids)
    case .stages(let stages): encodeStages(stages, text, into: &ids)
    }
  }

  /// The loop that everything hangs on: find a piece's end, look its ids up.
  @inline(__always)
  private func encode<R: SplitRules>(_ text: ScanText, _ rules: R.Type, into ids: inout TokenIDs) {
    var start = 0
    while start < text.end {
      let end = text.pieceEnd(start, rules)
      encodePiece(text.base, start, end, text.end, into: &ids)
      start = end
    }
  }

  private func encodeDeepSeek(_ text: ScanText, into ids: inout TokenIDs) {
    var start = 0
    while start < text.end {
      let end = text.deepSeekPieceEnd(start)
      encodePiece(text.base, start, end, text.end, into: &ids)
      start = end
    }
  }

  /// SentencePiece style: cut wherever no merge can cross, so that pieces are short and the cache knows them.
  private func encodeBars(_ text: ScanText, into ids: inout TokenIDs) {
    let cuts = tokenizer.cuts.joins
    cuts.withUnsafeBufferPointer { joins in
      var start = 0
      while start < text.end {
        var end = start &+ 1
        while end < text.end, joins[Int(text.base[end &- 1]) &<< 8 | Int(text.base[end])] { end &+= 1 }
        encodePiece(text.base, start, end, text.end, into: &ids)
        start = end
      }
    }
  }

  /// Appends the ids of the piece from `start` to `end`; bytes up to `textEnd` can be read.
  @inline(__always)
  func encodePiece(
    _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int, _ textEnd: Int, into ids: inout TokenIDs
  ) {
    let count = end &- start
    if count <= PieceCache.shortBytesMax, textEnd &- start >= 16 {
      let key = PieceCache.ShortKey(readable: base + start, count: count)
      ids.reserve(6)
      if pieces.append(key, to: &ids) { return }
      encodeNew(key, UnsafeRawBufferPointer(start: base + start, count: count), into: &ids)
    } else {
      encodeOther(UnsafeRawBufferPointer(start: base + start, count: count), into: &ids)
    }
  }

  @inline(never)
  private func encodeNew(
    _ key: PieceCache.ShortKey, _ piece: UnsafeRawBufferPointer, into ids: inout TokenIDs
  ) {
    let before = ids.count
    tokenizer.model.encode(piece, &work, into: &ids)
    pieces.remember(key, UnsafeBufferPointer(rebasing: ids.buffer.suffix(from: before)))
  }

  /// Long pieces, and short ones too close to the end of the text for reading 16 bytes.
  @inline(never)
  private func encodeOther(_ piece: UnsafeRawBufferPointer, into ids: inout TokenIDs) {
    guard piece.count <= PieceCache.longBytesMax else {
      guard piece.count <= TokenizerLimits.pieceBytesMax else {
        failure = .pieceTooLong(bytes: piece.count)
        return
      }
      tokenizer.model.encode(piece, &work, into: &ids)
      return
    }
    guard piece.count > 0 else { return }
    let hash = XXH3.hash(piece)
    if pieces.append(piece, hash: hash, to: &ids) { return }
    let before = ids.count
    tokenizer.model.encode(piece, &work, into: &ids)
    pieces.remember(piece, hash: hash, UnsafeBufferPointer(rebasing: ids.buffer.suffix(from: before)))
  }
}
