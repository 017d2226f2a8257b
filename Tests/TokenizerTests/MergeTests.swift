// The merge loops against a plain reading of what BPE is.

import Base
import Testing

@testable import Tokenizer

/// Merges the leftmost pair of the lowest rank until none is left.
private func plainMerge(_ ids: [UInt32], _ table: MergeTable) -> [UInt32] {
  var ids = ids
  while true {
    let ranks = zip(ids, ids.dropFirst()).map { table.rank($0, $1) }
    guard let best = ranks.min(), best != MergeTable.none, let place = ranks.firstIndex(of: best) else {
      return ids
    }
    ids[place] = table.result(best)
    ids.remove(at: place + 1)
  }
}

@Suite struct MergeTests {
  @Test func shortAndLongLoopsAgreeWithThePlainOne() throws {
    let model = try SmallModel.named("unsplit").model
    var random = Xoshiro256(seed: 11)
    for length in [1, 2, 3, 17, 95, 96, 97, 98, 300, 1_500] {
      for _ in 0..<12 {
        // Few different letters, so that merges compete.
        let letters = Array("aeint ab".utf8)
        let piece = (0..<length).map { _ in letters[Int(random.next() % UInt64(letters.count))] }
        let first = piece.map { byte in withUnsafeBytes(of: byte) { model.vocabulary.id(of: $0) ?? 0 } }
        var work = MergeWorkspace()
        var output = TokenIDs()
        piece.withUnsafeBytes { model.encode($0, &work, into: &output) }
        #expect(output.array == plainMerge(first, model.merges))
      }
    }
  }

  @Test func aLaterMergeOfTheSamePairCounts() throws {
    let table = MergeTable(capacity: 3)
    table.append(left: 1, right: 2, result: 3)
    table.append(left: 3, right: 3, result: 4)
    table.append(left: 1, right: 2, result: 3)
    #expect(table.rank(1, 2) == 2)
    #expect(table.rank(3, 3) == 1)
    #expect(table.rank(2, 1) == MergeTable.none)
  }

  @Test func aWholeTokenWinsWhenMergesAreIgnored() throws {
    let vocabulary = #"{"a":0,"b":1,"c":2,"ab":3,"abc":4,"cab":5}"#
    let merging = try SmallModel.load(SmallModel.tiny(vocabulary: vocabulary))
    #expect(try TextEncoder(merging).encode("cab") == [2, 3])
    let ignoring = try SmallModel.load(
      SmallModel.tiny(model: #","ignore_merges":true"#, vocabulary: vocabulary))
    #expect(try TextEncoder(ignoring).encode("cab") == [5])
  }

  @Test func bytesWithoutTokenAreLeftOutOrUnknown() throws {
    let dropping = try SmallModel.load(SmallModel.tiny())
    #expect(try TextEncoder(dropping).encode("axb") == [3])
    let unknown = #"{"a":0,"b":1,"c":2,"ab":3,"abc":4,"?":5}"#
    let marking = try SmallModel.load(SmallModel.tiny(model: #","unk_token":"?""#, vocabulary: unknown))
    #expect(try TextEncoder(marking).encode("axxb") == [0, 5, 5, 1])
    let fusing = try SmallModel.load(
      SmallModel.tiny(model: #","unk_token":"?","fuse_unk":true"#, vocabulary: unknown))
    #expect(try TextEncoder(fusing).encode("axxb") == [0, 5, 1])
  }
}
