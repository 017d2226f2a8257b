// Tokens that are cut out of the text before anything else looks at it: `<|im_start|>` and its kind.

internal import Base
internal import CBytes
internal import Glibc

/// A token that the file adds beside the model's vocabulary.
package struct AddedToken: Sendable, Equatable {
  /// Its number.
  package let id: UInt32
  /// Its text.
  package let content: String
  /// Matches only where no word character stands beside it.
  package let isSingleWord: Bool
  /// Takes the white space before it along.
  package let stripsLeft: Bool
  /// Takes the white space behind it along.
  package let stripsRight: Bool
  /// Is looked for in the normalized text.
  package let isNormalized: Bool
  /// Is left out of decoded text when asked.
  package let isSpecial: Bool
}

/// A stretch of text: plain, or an added token.
struct TextSegment: Equatable {
  var start: Int
  var end: Int
  /// The added token's id; nil for plain text.
  var token: UInt32?
}

/// Finds added tokens in text: at each place the longest, from left to right without overlap.
///
/// `@unchecked`: the table of first bytes is written in `init` only.
final class AddedTokenMatcher: @unchecked Sendable {
  /// The end of a token is marked by its place in ``tokens``; -1 marks none.
  private struct Node {
    var byte: UInt8
    var token: Int32 = -1
    var child: Int32 = -1
    var sibling: Int32 = -1
  }

  private let tokens: [AddedToken]
  private let nodes: [Node]
  /// The first node for each first byte; -1 for none.
  private let roots: UnsafeMutablePointer<Int32>
  /// The bytes that all tokens begin with, if they are one or two, which they nearly always are.
  private let fewFirsts: (UInt8, UInt8)?

  /// A matcher for `tokens`, whose texts are `patterns` (as they look in the text searched). A text that two tokens
  /// have finds the first of them.
  init(_ tokens: [AddedToken], patterns: [[UInt8]]) {
    var nodes: [Node] = []
    var roots = [Int32](repeating: -1, count: 256)
    for (number, pattern) in patterns.enumerated() where !pattern.isEmpty {
      var node = AddedTokenMatcher.child(of: nil, pattern[0], &nodes, &roots)
      for byte in pattern.dropFirst() { node = AddedTokenMatcher.child(of: node, byte, &nodes, &roots) }
      if nodes[node].token < 0 { nodes[node].token = Int32(number) }
    }
    let firsts = Set(patterns.compactMap(\.first))
    self.tokens = tokens
    self.nodes = nodes
    fewFirsts = firsts.count <= 2 ? firsts.min().flatMap { least in firsts.max().map { (least, $0) } } : nil
    self.roots = .allocate(capacity: 256)
    self.roots.initialize(from: roots, count: 256)
  }

  deinit { roots.deallocate() }

  /// True when there is nothing to find.
  var isEmpty: Bool { nodes.isEmpty }

  private static func child(of parent: Int?, _ byte: UInt8, _ nodes: inout [Node], _ roots: inout [Int32])
    -> Int
  {
    var next = parent.map { nodes[$0].child } ?? roots[Int(byte)]
    while next >= 0 {
      if nodes[Int(next)].byte == byte { return Int(next) }
      next = nodes[Int(next)].sibling
    }
    let new = nodes.count
    nodes.append(Node(byte: byte, sibling: parent.map { nodes[$0].child } ?? -1))
    if let parent { nodes[parent].child = Int32(new) } else { roots[Int(byte)] = Int32(new) }
    return new
  }

  /// Appends the segments of `text` from `start` to `end` to `segments`. Empty stretches are left out. What lies outside
  /// counts as absent.
  func split(_ text: UnsafeRawBufferPointer, _ start: Int, _ end: Int, into segments: inout [TextSegment]) {
    guard let base = text.bindMemory(to: UInt8.self).baseAddress, start < end else { return }
    var written = start
    var index = start
    while let (match, token) = nextMatch(base, index, end) {
      index = match.upperBound
      var (first, last) = (match.lowerBound, match.upperBound)
      let added = tokens[token]
      if added.isSingleWord, touchesWord(base, first, last, start, end) { continue }
      if added.stripsLeft {
        while first > written,
          let length = AddedTokenMatcher.spaceLength(before: base + first, first - written)
        {
          first -= length
        }
      }
      if added.stripsRight {
        while last < end, let length = AddedTokenMatcher.spaceLength(at: base + last) { last += length }
      }
      if written < first { segments.append(TextSegment(start: written, end: first)) }
      segments.append(TextSegment(start: first, end: last, token: added.id))
      written = last
    }
    if written < end { segments.append(TextSegment(start: written, end: end)) }
  }

  private func nextMatch(
    _ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int
  ) -> (range: Range<Int>, token: Int)? {
    var index = start
    while index < end {
      if let (one, other) = fewFirsts {
        index += Int(cbytes_find_either(base + index, end - index, one, other))
        guard index < end else { return nil }
      } else {
        while roots[Int(base[index])] < 0 {
          index += 1
          if index == end { return nil }
        }
      }
      if let match = longest(base, index, end) { return match }
      index += 1
    }
    return nil
  }

  private func longest(_ base: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> (
    range: Range<Int>, token: Int
  )? {
    var found: (range: Range<Int>, token: Int)?
    var next = roots[Int(base[start])]
    var index = start
    nodes.withUnsafeBufferPointer { nodes in
      while next >= 0 {
        let node = nodes[Int(next)]
        guard node.byte == base[index] else {
          next = node.sibling
          continue
        }
        index += 1
        if node.token >= 0 { found = (start..<index, Int(node.token)) }
        guard index < end else { return }
        next = node.child
      }
    }
    return found
  }

  private func touchesWord(
    _ base: UnsafePointer<UInt8>, _ first: Int, _ last: Int, _ start: Int, _ end: Int
  ) -> Bool {
    let table = UnicodeTable.shared
    if first > start, table.flags(TextCharacter(before: base + first).code).contains(.word) { return true }
    return last < end && table.flags(TextCharacter(at: base + last).code).contains(.word)
  }

  private static func spaceLength(before pointer: UnsafePointer<UInt8>, _ available: Int) -> Int? {
    guard available > 0 else { return nil }
    let character = TextCharacter(before: pointer)
    return UnicodeTable.shared.flags(character.code).contains(.space) && character.length <= available
      ? character.length : nil
  }

  private static func spaceLength(at pointer: UnsafePointer<UInt8>) -> Int? {
    let character = TextCharacter(at: pointer)
    return UnicodeTable.shared.flags(character.code).contains(.space) ? character.length : nil
  }
}
