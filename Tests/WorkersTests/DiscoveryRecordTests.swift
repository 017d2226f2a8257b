// Records of file discovery: keys, JSON both ways, the folder's safety, and the life of a registration.

import Base
import Foundation
import OpenAI
import Testing

@testable import Workers

@Suite struct DiscoveryRecordTests {
  private let identity = DiscoveryIdentity(
    namespace: "dynamo", component: "backend", endpoint: "generate", instanceID: 0xabc123)

  private func parse(_ json: String) throws -> DiscoveryRecord {
    try Array(json.utf8).withUnsafeBytes { try DiscoveryRecord.parse($0) }
  }

  private func parseCard(_ json: String) throws -> ModelCard {
    try Array(json.utf8).withUnsafeBytes { try ModelCard.parse($0) }
  }

  @Test func keysFollowDynamosScheme() {
    #expect(identity.instanceKey == "v1/instances/dynamo/backend/generate/abc123")
    #expect(identity.cardKey == "v1/mdc/dynamo/backend/generate/abc123")
  }

  @Test func aRecordSurvivesTheRoundTrip() throws {
    let record = DiscoveryRecord(identity, transport: .http("http://127.0.0.1:4711"))
    var bytes = ByteBuffer()
    record.write(to: &bytes)
    #expect(try parse(bytes.text) == record)
  }

  @Test func foreignTransportsAreNamedNotRefused() throws {
    let record = try parse(
      #"{"component":"c","endpoint":"e","namespace":"n","instance_id":7,"device_type":"x","transport":{"tcp":"h:1/x"}}"#
    )
    #expect(record.transport == .foreign("tcp"))
  }

  @Test(arguments: [
    #"{"component":"c","endpoint":"e","namespace":"../n","instance_id":7,"transport":{"http":"u"}}"#,
    #"{"component":"","endpoint":"e","namespace":"n","instance_id":7,"transport":{"http":"u"}}"#,
    #"{"component":"c","endpoint":"e","namespace":"n","instance_id":"7","transport":{"http":"u"}}"#,
    #"{"component":"c","endpoint":"e","namespace":"n","instance_id":7,"transport":{}}"#, "[]", "{", "",
  ]) func brokenRecordsAreRefused(_ json: String) {
    #expect(throws: DiscoveryRecordError.self) { try parse(json) }
  }

  @Test func aCardSurvivesTheRoundTripAndDynamosWrapper() throws {
    var card = ModelCard(displayName: "Qwen/Qwen3-0.6B \"quoted\"")
    card.role = .prefill
    card.contextLength = 4_096
    card.blockSize = 16
    card.totalBlocks = 16_384
    card.sequencesMax = 256
    card.batchedTokensMax = 8_192
    card.migrationLimit = 3
    var bytes = ByteBuffer()
    card.write(to: &bytes)
    #expect(try parseCard(bytes.text) == card)
    #expect(try parseCard("{\"type\":\"Model\",\"card_json\":\(bytes.text)}") == card)
    #expect(try parseCard(#"{"display_name":"m"}"#) == ModelCard(displayName: "m"))
    card.endpoints = EndpointSet([.embeddings, .rerank])
    bytes.removeAll()
    card.write(to: &bytes)
    #expect(bytes.text.contains(#""model_type":"Embedding | Rerank","endpoints":["embeddings","rerank"]"#))
    #expect(try parseCard(bytes.text) == card)
    #expect(ModelCard.slug("Qwen/Qwen3-0.6B") == "qwen-qwen3-0-6b")
  }

  @Test(arguments: [
    ("Chat | Completions", [Endpoint.chatCompletions, .completions, .responses]),
    ("Embedding", [.embeddings]),
    ("Rerank", [.rerank, .score]), ("Images | Realtime", []),
  ]) func dynamosWordsStandForRoutes(words: String, routes: [Endpoint]) throws {
    let card = try parseCard("{\"display_name\":\"m\",\"model_type\":\"\(words)\"}")
    #expect(card.endpoints?.endpoints == routes)
  }

  @Test func instanceIDsKeepAllDigitsInADouble() {
    var random = Xoshiro256(seed: 5)
    for _ in 0..<1_000 {
      let id = DiscoveryIdentity.instanceID(using: &random)
      #expect((1...DiscoveryIdentity.instanceIDMax).contains(id))
      #expect(UInt64(Double(id)) == id)
    }
  }

  @Test func theFolderIsFoundInTheDocumentedOrder() {
    func path(_ environment: [String: String]) -> String {
      DiscoveryFolder.resolve(environment: environment).path
    }
    let all = ["DYN_FILE_KV": "/a", "RUNTIME_DIRECTORY": "/b:/c", "XDG_RUNTIME_DIR": "/d", "TMPDIR": "/e"]
    #expect(path(all) == "/a")
    #expect(path(all.filter { $0.key != "DYN_FILE_KV" }) == "/b")
    #expect(path(["XDG_RUNTIME_DIR": "/d", "DYN_FILE_KV": ""]) == "/d/dynamo")
    #expect(path(["TMPDIR": "/e"]) == "/e/dynamo_store_kv-\(geteuid())")
    #expect(path([:]) == "/tmp/dynamo_store_kv-\(geteuid())")
  }

  @Test func aRegistrationAppearsWholeIsKeptAndGoes() throws {
    let root = try TemporaryFolder()
    let folder = DiscoveryFolder(explicit: root.path + "/deep/store")
    let registration = FileRegistration(
      folder: folder, record: DiscoveryRecord(identity, transport: .http("http://127.0.0.1:1")),
      card: ModelCard(displayName: "m"))
    try registration.touch()
    #expect(!FileManager.default.fileExists(atPath: folder.path))
    try registration.register()
    let file = folder.path + "/" + identity.instanceKey
    let bytes = try #require(FileManager.default.contents(atPath: file))
    #expect(try bytes.withUnsafeBytes { try DiscoveryRecord.parse($0) }.identity == identity)
    #expect(try FileManager.default.attributesOfItem(atPath: folder.path)[.posixPermissions] as? Int == 0o700)
    let siblings = try FileManager.default.contentsOfDirectory(
      atPath: (file as NSString).deletingLastPathComponent)
    #expect(siblings == ["abc123"])

    try FileManager.default.removeItem(atPath: file)
    try registration.touch()
    #expect(FileManager.default.fileExists(atPath: file))
    registration.withdraw()
    try registration.touch()
    #expect(!FileManager.default.fileExists(atPath: file))
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/" + identity.cardKey))
  }

  @Test func aFolderThatOthersCanWriteIsRefused() throws {
    let root = try TemporaryFolder()
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: root.path)
    #expect(throws: DiscoveryFolderError.self) { try DiscoveryFolder(explicit: root.path).prepare() }
    let file = root.path + "/file"
    #expect(FileManager.default.createFile(atPath: file, contents: nil))
    #expect(throws: DiscoveryFolderError.self) { try DiscoveryFolder(explicit: file).prepare() }
  }

  @Test func aChosenFolderIsNoLinkAndIsClosedToOthers() throws {
    let root = try TemporaryFolder()
    let chosen = DiscoveryFolder.resolve(environment: ["XDG_RUNTIME_DIR": root.path])
    try FileManager.default.createDirectory(atPath: chosen.path, withIntermediateDirectories: false)
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: chosen.path)
    try chosen.prepare()
    #expect(try FileManager.default.attributesOfItem(atPath: chosen.path)[.posixPermissions] as? Int == 0o700)

    try FileManager.default.removeItem(atPath: chosen.path)
    try FileManager.default.createSymbolicLink(atPath: chosen.path, withDestinationPath: "/tmp")
    #expect(throws: DiscoveryFolderError.self) { try chosen.prepare() }
  }
}

/// A folder of this test alone, removed with it.
private final class TemporaryFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "discovery-\(UInt64.random(in: 0...UInt64.max))"
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
