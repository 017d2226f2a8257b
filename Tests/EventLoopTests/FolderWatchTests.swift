// What the kernel tells of folders, on the real kernel.

import Base
import Foundation
import Testing

@testable import EventLoop

struct FolderWatchTests {
  private let path = NSTemporaryDirectory() + "watch-\(UInt64.random(in: 0...UInt64.max))"

  private final class Count { var value = 0 }

  @Test func entriesThatComeAndGoAreHeardOf() throws {
    try FileManager.default.createDirectory(atPath: path + "/sub", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let loop = try EventLoop(index: 0, seed: 1)
    let count = Count()
    let watch = try FolderWatch(on: loop) { count.value += 1 }
    defer {
      watch.close()
      loop.close()
    }
    #expect(watch.follow([path, path + "/missing"]))
    #expect(!watch.follow([path]))
    loop.turn(patience: 0)
    #expect(count.value == 0)
    try Data("x".utf8).write(to: URL(fileURLWithPath: path + "/a"))
    loop.turn(patience: 1_000)
    #expect(count.value == 1)
    // A touched file is no news, and neither is what happens in folders that are not watched.
    #expect(utimensat(AT_FDCWD, path + "/a", nil, 0) == 0)
    try Data("x".utf8).write(to: URL(fileURLWithPath: path + "/sub/a"))
    loop.turn(patience: 0)
    #expect(count.value == 1)
    #expect(watch.follow([path + "/sub"]))
    try FileManager.default.removeItem(atPath: path + "/sub/a")
    loop.turn(patience: 1_000)
    #expect(count.value == 2)
    try FileManager.default.removeItem(atPath: path + "/a")
    loop.turn(patience: 0)
    #expect(count.value == 2)
  }

  @Test func afterItIsClosedNothingIsHeard() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    let loop = try EventLoop(index: 0, seed: 1)
    let watch = try FolderWatch(on: loop) { Issue.record("heard") }
    #expect(watch.follow([path]))
    watch.close()
    watch.close()
    #expect(!watch.follow([path]))
    try Data("x".utf8).write(to: URL(fileURLWithPath: path + "/a"))
    loop.turn(patience: 0)
    loop.close()
  }
}
