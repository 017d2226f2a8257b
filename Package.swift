// swift-tools-version: 6.2
// The package: one target per room, imports only point down (docs/architecture.md).

import PackageDescription

// Release builds lay out and inline the request path by a profile of it: a tenth less CPU for a short request
// (docs/performance.md). Scripts/profile.sh makes the profile, and turns its use off while it does.
#if compiler(>=6.3)
  let profile: [SwiftSetting] =
    Context.environment["DYNAMO_PROFILE"] == "off"
    ? []
    : [
      .unsafeFlags(
        ["-Xfrontend", "-ir-profile-use=\(Context.packageDirectory)/Config/release.profdata"],
        .when(configuration: .release))
    ]
#else
  // An older compiler may not read this one's format.
  let profile: [SwiftSetting] = []
#endif

let language: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // Dynamic exclusivity checks cost about 30 k instructions a streamed request; debug builds and tests keep them.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
  ] + profile

// CI sets this (Scripts/test.sh): a warning of ours then fails the build. Not the default: a newer compiler's new
// warning must not stop a user's build.
let warningsAreErrors = Context.environment["DYNAMO_WARNINGS_AS_ERRORS"] == "1"
let strict = language + (warningsAreErrors ? [.treatAllWarnings(as: .error)] : [])

// Scripts/test.sh sets this for its run under ThreadSanitizer (Tests/MutexAnnotations says why).
let annotatesMutex = Context.environment["DYNAMO_THREAD_SANITIZER"] == "1"
let mutexAnnotations: [Target] =
  annotatesMutex ? [.target(name: "MutexAnnotations", path: "Tests/MutexAnnotations")] : []
let supportOfTests: [Target.Dependency] =
  ["EventLoop", "Protobuf", "Base", "COpenSSL"] + (annotatesMutex ? ["MutexAnnotations"] : [])

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func executable(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.byName(name: name), "TestSupport"] + dependencies,
    swiftSettings: strict)
}

let package = Package(
  name: "dynamo-frontend",
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
  ],
  targets: [
    // C modules without logic.
    .target(name: "CSystem"),
    .target(name: "CBytes"),
    .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),

    // Layer 0
    room("Base", ["CBytes"]),
    room("JSON", ["Base", "CBytes"]),
    room("Protobuf", ["Base"]),
    room("Settings", ["Base"]),

    // Layer 1
    room("EventLoop", ["Base", "CSystem"]),
    room("TLS", ["Base", "COpenSSL"]),
    room("HTTP", ["Base", "CBytes", "CNghttp2", "CZlib"]),
    // The schema of spans is for tests and for the documentation.
    .target(
      name: "Telemetry", dependencies: ["Base", "JSON", "Protobuf", logging], exclude: ["SpanSchema.json"],
      swiftSettings: strict),
    room("OpenAI", ["Base", "JSON", "CBytes"]),
    room("Routing", ["Base"]),
    room("Tokenizer", ["Base", "JSON", "CBytes"]),
    room("Tenants", ["Base"]),

    // Layer 2
    room("Transport", ["EventLoop", "TLS", "HTTP", "Base"]),
    room("GRPC", ["HTTP", "Protobuf", "Base"]),
    room("KVEvents", ["Base"]),
    room("Anthropic", ["OpenAI", "JSON", "Base"]),
    room("Prompts", ["Tokenizer", "OpenAI", "EventLoop", "JSON", "Base"]),

    // Layer 3
    room(
      "Exporter", ["EventLoop", "TLS", "Transport", "GRPC", "HTTP", "Telemetry", "Protobuf", "Base", logging]),
    room(
      "Workers",
      [
        "EventLoop", "TLS", "Transport", "HTTP", "OpenAI", "Routing", "KVEvents", "Telemetry", "JSON", "Base",
        logging,
      ]),
    room("Engine", ["OpenAI", "Routing", "JSON", "Base"]),

    // Layer 4
    room(
      "Frontend",
      [
        "Anthropic", "Workers", "Prompts", "Transport", "TLS", "EventLoop", "HTTP", "OpenAI", "Tokenizer",
        "Routing", "Telemetry", "Tenants",
        "Settings", "JSON", "Base", logging,
      ]),
    room(
      "WorkerServer",
      [
        "Engine", "Workers", "Prompts", "Transport", "EventLoop", "HTTP", "OpenAI", "Tokenizer", "KVEvents",
        "Telemetry",
        "Settings", "JSON", "Base", logging,
      ]),
    // The page's sources are embedded by Scripts/embed_page.py.
    .target(
      name: "TraceStore",
      dependencies: [
        "Transport", "EventLoop", "HTTP", "GRPC", "Telemetry", "Settings", "Protobuf", "JSON", "Base",
        logging,
      ],
      exclude: ["Page/page.html", "Page/page.css", "Page/page.js", "Page/icon.svg"], swiftSettings: strict),

    // Layer 5
    executable(
      "dynamo-frontend",
      [
        "Frontend", "WorkerServer", "TraceStore", "Workers", "Prompts", "Routing", "Transport", "TLS",
        "Exporter",
        "Telemetry", "Tenants", "EventLoop", "Settings", "Base", logging,
      ]),
    executable(
      "dynamo-worker",
      [
        "WorkerServer", "Workers", "Prompts", "Exporter", "Telemetry", "EventLoop", "Settings", "Base",
        logging,
      ]),
    executable(
      "dynamo-tempo", ["TraceStore", "Exporter", "Telemetry", "EventLoop", "Settings", "Base", logging]),
    executable(
      "dynamo-bench",
      [
        "Exporter", "Telemetry", "Transport", "EventLoop", "HTTP", "OpenAI", "Tokenizer", "Routing", "GRPC",
        "Protobuf", "JSON", "Base", "CSystem", argumentParser, logging,
      ]),

    // Tests
    .target(
      name: "TestSupport", dependencies: supportOfTests, path: "Tests/TestSupport",
      swiftSettings: strict),
    tests("Base", []),
    tests("JSON", ["Base"]),
    tests("Protobuf", ["Base"]),
    tests("Settings", ["Base"]),
    tests("EventLoop", ["Base", "CSystem"]),
    tests("TLS", ["Base", "COpenSSL"]),
    tests("HTTP", ["Base"]),
    tests("Telemetry", ["Base", "JSON", "Protobuf"]),
    tests("OpenAI", ["Base", "JSON"]),
    tests("Routing", ["Base"]),
    tests("Tokenizer", ["Base", "JSON"]),
    tests("Tenants", ["Base"]),
    tests("Transport", ["EventLoop", "TLS", "HTTP", "Base"]),
    tests("GRPC", ["HTTP", "Protobuf", "Base"]),
    tests("KVEvents", ["Base"]),
    tests("Exporter", ["EventLoop", "Transport", "Telemetry", "GRPC", "HTTP", "Protobuf", "Base", logging]),
    tests(
      "Workers",
      ["EventLoop", "TLS", "Transport", "OpenAI", "Routing", "KVEvents", "Telemetry", "Base", logging]),
    tests("Engine", ["OpenAI", "Base"]),
    tests("Anthropic", ["OpenAI", "HTTP", "JSON", "Base"]),
    tests(
      "Frontend",
      [
        "Workers", "Transport", "TLS", "EventLoop", "HTTP", "OpenAI", "Tokenizer", "Routing", "Telemetry",
        "Tenants", "Base", logging,
      ]),
    tests(
      "WorkerServer",
      [
        "Engine", "Workers", "Prompts", "Transport", "EventLoop", "HTTP", "OpenAI", "Tokenizer", "KVEvents",
        "Telemetry",
        "Settings", "Protobuf", "Base",
      ]),
    tests("TraceStore", ["Transport", "EventLoop", "HTTP", "Telemetry", "Protobuf", "JSON", "Base"]),
    .testTarget(
      name: "BenchTests",
      dependencies: ["dynamo-bench", "TestSupport", "Exporter", "Telemetry", "Base", "Protobuf"],
      swiftSettings: strict),
  ] + mutexAnnotations
)
