// Settings as variables, for the rooms that read the environment by the OpenTelemetry specification's own rules.

internal import Base

extension SettingsValues {
  /// `environment` with what the configuration file says about settings that have no flag, tracing and logging, and
  /// with its variables that are no settings of ours.
  package func effectiveEnvironment(_ environment: [String: String]) -> [String: String] {
    var result = environment.merging(otherVariables) { fromEnvironment, _ in fromEnvironment }
    for line in report where line.name == line.environment {
      guard case .file = origin(line.name), let value = value(line.name) else { continue }
      if case .duration(let length) = value {
        result[line.environment] = String(length / millisecond)
      } else {
        result[line.environment] = value.text
      }
    }
    return result
  }
}
