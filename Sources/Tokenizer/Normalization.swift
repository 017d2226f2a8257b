// Unicode normalization form C (UAX #15), as the reference implementation's data defines it.

internal import Base
internal import CBytes

/// The data of NFC, unpacked once a process when the first tokenizer asks for it.
final class NormalizationTable: Sendable {
  static let shared = NormalizationTable()

  /// Canonical decompositions, one step: one or two characters, the second 0 if there is one.
  private let decompositions: [UInt32: (UInt32, UInt32)]
  /// What two characters compose to, by `first << 32 | second`.
  private let compositions: [UInt64: UInt32]
  private let combiningClasses: [UInt32: UInt8]

  private init() {
    var decompositions: [UInt32: (UInt32, UInt32)] = [:]
    var compositions: [UInt64: UInt32] = [:]
    var combiningClasses: [UInt32: UInt8] = [:]
    var code: UInt32 = 0
    UnicodeData.decompositions.withUTF8Buffer { text in
      var reader = Base36Reader(text: text)
      while let distance = reader.number() {
        code += distance
        let composes = reader.passed == UInt8(ascii: ":")
        let first = reader.number() ?? 0
        let second = reader.passed == UInt8(ascii: ",") ? reader.number() ?? 0 : 0
        decompositions[code] = (first, second)
        if composes { compositions[UInt64(first) << 32 | UInt64(second)] = code }
      }
    }
    code = 0
    UnicodeData.combiningClasses.withUTF8Buffer { text in
      var reader = Base36Reader(text: text)
      while let distance = reader.number() {
        code += distance
        combiningClasses[code] = UInt8(truncatingIfNeeded: reader.number() ?? 0)
      }
    }
    self.decompositions = decompositions
    self.compositions = compositions
    self.combiningClasses = combiningClasses
  }

  /// The canonical combining class; 0 for what starts a cluster.
  func combiningClass(_ code: UInt32) -> UInt8 {
    code < 0x300 ? 0 : combiningClasses[code] ?? 0
  }

  /// Appends the full canonical decomposition of `code`.
  func decompose(_ code: UInt32, into result: inout [UInt32]) {
    if code < 0xc0 {
      result.append(code)
    } else if case 0xac00..<0xd7a4 = code {
      // Hangul syllables are computed (Unicode 3.12).
      let index = code - 0xac00
      result.append(0x1100 + index / 588)
      result.append(0x1161 + index % 588 / 28)
      if index % 28 != 0 { result.append(0x11a7 + index % 28) }
    } else if let (first, second) = decompositions[code] {
      decompose(first, into: &result)
      if second != 0 { decompose(second, into: &result) }
    } else {
      result.append(code)
    }
  }

  /// What `first` and `second` compose to; nil when they do not.
  func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if case 0x1100..<0x1113 = first, case 0x1161..<0x1176 = second {
      return 0xac00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28
    }
    if case 0xac00..<0xd7a4 = first, (first - 0xac00) % 28 == 0, case 0x11a8..<0x11c3 = second {
      return first + (second - 0x11a7)
    }
    return compositions[UInt64(first) << 32 | UInt64(second)]
  }
}

/// Reads the generated tables: numbers in base 36, each followed by one other character.
private struct Base36Reader {
  let text: UnsafeBufferPointer<UInt8>
  var index = 0
  /// The character behind the last number.
  var passed: UInt8 = 0

  mutating func number() -> UInt32? {
    guard index < text.count else { return nil }
    var value: UInt32 = 0
    while index < text.count {
      let byte = text[index]
      index += 1
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value * 36 + UInt32(byte - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = value * 36 + UInt32(byte - UInt8(ascii: "a")) + 10
      default:
        passed = byte
        return value
      }
    }
    return value
  }
}

/// Brings text into NFC. Holds working space, so one instance a thread.
struct Normalizer {
  private var codes: [UInt32] = []
  private var classes: [UInt8] = []

  /// True when no character of `text` (valid UTF-8) can change: what nearly all text passes with.
  static func isNormalized(_ text: UnsafeRawBufferPointer) -> Bool {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return true }
    return firstUnstable(base, 0, text.count) == text.count
  }

  /// Appends the NFC of `text`, which is valid UTF-8, to `output`.
  ///
  /// Only what lies between two stable characters is taken apart: a stable character has class 0, does not change and
  /// joins nothing before it, so whatever stands left and right of it normalizes apart.
  mutating func append(_ text: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    let table = UnicodeTable.shared
    var start = 0
    while start < text.count {
      var unstable = Normalizer.firstUnstable(base, start, text.count)
      if unstable > start, unstable < text.count {
        // The stable character before it may be what it joins.
        unstable -= TextCharacter(before: base + unstable).length
      }
      output.append(text.slice(start..<unstable))
      var end = unstable
      while end < text.count {
        let character = TextCharacter(at: base + end)
        if end > unstable, !table.flags(character.code).contains(.unstable) { break }
        end += character.length
      }
      appendComposed(text.slice(unstable..<end), to: &output)
      start = end
    }
  }

  /// The place of the first character that may change; `end` when there is none.
  private static func firstUnstable(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> Int {
    let table = UnicodeTable.shared
    var index = start
    while true {
      index += cbytes_ascii_run(base + index, end - index)
      guard index < end else { return end }
      let character = TextCharacter(at: base + index)
      if table.flags(character.code).contains(.unstable) { return index }
      index += character.length
    }
  }

  private mutating func appendComposed(_ text: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress else { return }
    let table = NormalizationTable.shared
    codes.removeAll(keepingCapacity: true)
    classes.removeAll(keepingCapacity: true)
    var index = 0
    while index < text.count {
      let character = TextCharacter(at: base + index)
      table.decompose(character.code, into: &codes)
      index += character.length
    }
    for code in codes { classes.append(table.combiningClass(code)) }
    order()
    compose(table)
    for code in codes { output.append(scalar: code) }
  }

  /// Sorts each run of marks by class and keeps equal classes in order (Unicode 3.11, D109). Runs are short as a rule;
  /// a long one is sorted by counting, so that hostile text costs no more.
  private mutating func order() {
    var start = 0
    while start < codes.count {
      guard classes[start] != 0 else {
        start += 1
        continue
      }
      var end = start + 1
      var isOrdered = true
      while end < codes.count, classes[end] != 0 {
        if classes[end] < classes[end - 1] { isOrdered = false }
        end += 1
      }
      if !isOrdered { end - start <= 32 ? insertionSort(start, end) : countingSort(start, end) }
      start = end
    }
  }

  private mutating func insertionSort(_ start: Int, _ end: Int) {
    for index in (start + 1)..<end {
      var place = index
      while place > start, classes[place - 1] > classes[place] {
        classes.swapAt(place - 1, place)
        codes.swapAt(place - 1, place)
        place -= 1
      }
    }
  }

  private mutating func countingSort(_ start: Int, _ end: Int) {
    var sorted = [[UInt32]](repeating: [], count: 256)
    for index in start..<end { sorted[Int(classes[index])].append(codes[index]) }
    var index = start
    for (value, group) in sorted.enumerated() {
      for code in group {
        codes[index] = code
        classes[index] = UInt8(value)
        index += 1
      }
    }
  }

  /// Joins starters with what follows them unless something of the same or a higher class stands between
  /// (Unicode 3.11, D117).
  private mutating func compose(_ table: NormalizationTable) {
    var starter = -1
    var written = 0
    var lastClass: UInt8 = 0
    for index in 0..<codes.count {
      let (code, combiningClass) = (codes[index], classes[index])
      let isAdjacent = starter >= 0 && written == starter + 1
      if starter >= 0, isAdjacent || (lastClass != 0 && lastClass < combiningClass),
        let joined = table.compose(codes[starter], code)
      {
        codes[starter] = joined
        continue
      }
      if combiningClass == 0 { starter = written }
      lastClass = combiningClass
      codes[written] = code
      written += 1
    }
    codes.removeSubrange(written...)
  }
}

extension ByteBuffer {
  /// Appends the character with number `code` as UTF-8.
  mutating func append(scalar code: UInt32) {
    let scalar = Unicode.Scalar(code) ?? "\u{fffd}"
    for unit in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter { append(unit) }
  }
}
