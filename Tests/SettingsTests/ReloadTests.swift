// A second reading of the configuration file: what changed, and what of it may take effect.

import Base
import Testing

@testable import Settings

private func table(reloads: Bool) -> SettingsTable {
  SettingsTable(
    program: "sample", summary: "a sample",
    definitions: [
      SettingDefinition(
        "limit", "S_LIMIT", .integer(1...99), fallback: "5", group: "A", live: true, "Limit."),
      SettingDefinition("worker", "S_WORKERS", .list, group: "A", live: true, "Workers."),
      SettingDefinition("port", "S_PORT", .integer(0...65535), fallback: "80", group: "A", "Port."),
      SettingDefinition(nil, "S_KEY", .string, group: "A", secret: true, live: true, "Key."),
    ], reloads: reloads)
}

private func read(
  _ file: String, _ arguments: [String] = [], _ environment: [String: String] = [:], reloads: Bool = true
) throws -> SettingsValues {
  try SettingsParser.parse(
    table(reloads: reloads), arguments: arguments + ["--config", "conf"], environment: environment
  ) { _ in .text(file) }
}

@Suite struct Reloading {
  @Test func liveSettingsAreTakenOverAndOthersWait() throws {
    let old = try read("S_LIMIT=7\nS_PORT=81\n")
    let new = try read("# moved\nS_LIMIT=8\nS_PORT=82\nS_WORKERS=a,b\n")
    let changes = old.changes(to: new)
    #expect(changes.map(\.environment) == ["S_LIMIT", "S_WORKERS", "S_PORT"])
    #expect(changes.map(\.isLive) == [true, true, false])
    #expect(changes.map(\.old) == ["7", "", "81"] && changes.map(\.new) == ["8", "a,b", "82"])
    #expect(changes[2].origin.description == "conf:3")
    let result = old.adoptingLive(new)
    #expect(result.int("limit") == 8 && result.list("worker") == ["a", "b"])
    #expect(result.origin("limit").description == "conf:2")
    #expect(result.int("port") == 81)
    #expect(result.changes(to: new).map(\.environment) == ["S_PORT"])
  }

  @Test func aLineThatIsGoneGivesTheDefaultBack() throws {
    let old = try read("S_LIMIT=7\nS_WORKERS=a\n")
    let result = old.adoptingLive(try read(""))
    #expect(result.int("limit") == 5 && result.list("worker") == [])
    #expect(!result.isGiven("limit"))
  }

  @Test func anotherLineWithTheSameValueIsNoChange() throws {
    #expect(try read("S_LIMIT=7").changes(to: try read("\n\nS_LIMIT=7")).isEmpty)
  }

  @Test func flagAndEnvironmentStillBeatTheFile() throws {
    let flags = ["--limit", "9"]
    let environment = ["S_WORKERS": "x"]
    let old = try read("", flags, environment)
    let new = try read("S_LIMIT=7\nS_WORKERS=y\n", flags, environment)
    #expect(old.changes(to: new).isEmpty)
    #expect(old.adoptingLive(new).int("limit") == 9)
  }

  @Test func secretsAreNotShown() throws {
    let change = try read("").changes(to: try read("S_KEY=hush"))
    #expect(change.count == 1 && change[0].isLive && !change[0].new.contains("hush"))
  }

  @Test func aProgramThatDoesNotReloadTakesNothingOver() throws {
    let old = try read("S_LIMIT=7", reloads: false)
    let new = try read("S_LIMIT=8", reloads: false)
    #expect(old.adoptingLive(new).int("limit") == 7)
    #expect(old.changes(to: new).map(\.isLive) == [false])
  }

  @Test func helpDocumentsAndReportSayWhatIsLive() throws {
    let live = table(reloads: true)
    #expect(live.markdown.contains("| `--limit N` | `S_LIMIT` | `5` | live | Limit. |"))
    #expect(live.markdown.contains("| `--port N` | `S_PORT` | `80` |  | Port. |"))
    #expect(live.helpText.contains("[environment S_LIMIT, default 5, live]"))
    #expect(live.helpText.contains("[environment S_PORT, default 80]"))
    #expect(try read("S_LIMIT=7").reportText.contains("conf:1  (live)"))
    let fixed = table(reloads: false)
    #expect(!fixed.markdown.contains("live") && !fixed.helpText.contains("live"))
    #expect(fixed.markdown.contains("| Flag | Environment | Default | Meaning |"))
  }
}
