// Where file discovery keeps its tree, and why that folder can be trusted.

internal import Glibc

/// Why the folder, or a record in it, cannot be used.
package struct DiscoveryFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  package let path: String
  package let reason: String

  package var description: String { "\(path): \(reason)" }
}

/// The root of the file discovery's tree.
package struct DiscoveryFolder: Sendable, Equatable {
  package let path: String
  /// The folder was named by the user, who answers for what its name means; a symbolic link is then allowed.
  let isExplicit: Bool

  /// A folder that the user named.
  package init(explicit path: String) {
    self.path = path
    isExplicit = true
  }

  private init(chosen path: String) {
    self.path = path
    isExplicit = false
  }

  /// `DYN_FILE_KV`, else `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/dynamo`, else `dynamo_store_kv-<uid>` in the
  /// temporary folder.
  package static func resolve(environment: [String: String]) -> DiscoveryFolder {
    func variable(_ name: String) -> String? {
      guard let value = environment[name], !value.isEmpty else { return nil }
      return value
    }
    if let path = variable("DYN_FILE_KV") { return DiscoveryFolder(explicit: path) }
    // systemd gives several folders separated by colons.
    if let path = variable("RUNTIME_DIRECTORY")?.split(separator: ":").first {
      return DiscoveryFolder(chosen: String(path))
    }
    if let path = variable("XDG_RUNTIME_DIR") { return DiscoveryFolder(chosen: path + "/dynamo") }
    return DiscoveryFolder(chosen: (variable("TMPDIR") ?? "/tmp") + "/dynamo_store_kv-\(geteuid())")
  }

  /// Makes the folder, mode 0700, where it is missing, and checks that nobody else can write records into it.
  package func prepare() throws(DiscoveryFolderError) {
    try Self.makeFolders(path)
    var status = stat()
    guard (isExplicit ? stat(path, &status) : lstat(path, &status)) == 0 else { throw failure("stat") }
    guard status.st_mode & S_IFMT == S_IFDIR else { throw error("is not a directory") }
    guard status.st_uid == geteuid() else { throw error("belongs to user \(status.st_uid), not to this one") }
    guard status.st_mode & 0o022 != 0 else { return }
    if isExplicit { throw error("can be written by others; use mode 0700") }
    guard chmod(path, 0o700) == 0 else { throw failure("chmod") }
  }

  /// Makes `path` and the folders above it that are missing, mode 0700.
  static func makeFolders(_ path: String) throws(DiscoveryFolderError) {
    if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex {
      try makeFolders(String(path[..<slash]))
      if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
    }
    throw DiscoveryFolderError(path: path, reason: "mkdir: \(String(cString: strerror(errno)))")
  }

  private func error(_ reason: String) -> DiscoveryFolderError {
    DiscoveryFolderError(path: path, reason: reason)
  }

  private func failure(_ call: String) -> DiscoveryFolderError {
    error("\(call): \(String(cString: strerror(errno)))")
  }
}
