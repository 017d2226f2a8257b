// What `doctor` says of the static workers: whether each can be reached, and whether it serves what is asked for.

import Base
import Frontend
import Settings
import Workers

/// Asks each worker for its models, as the frontend does when it starts.
enum WorkerCheck {
  static func run(_ settings: SettingsValues, _ check: (String, String?) -> Void) {
    let urls = settings.list("worker") + settings.list("prefill-worker")
    guard !urls.isEmpty else { return }
    var configuration = WorkerDirectoryConfiguration()
    do {
      if let path = settings.optionalString("worker-api-key-file") {
        configuration.apiKey = try FrontendProcess.readKey(path)
      }
      configuration.security = try FrontendProcess.workerSecurity(settings)
    } catch {
      check("workers", "\(error)")
      return
    }
    let wanted = settings.optionalString("model-name")
    for url in urls {
      do throws(WorkerQuestionFailure) {
        let models = try WorkerQuestion.models(of: url, configuration)
        check("worker \(url) serves \(list(models))", mismatch(models, wanted))
      } catch {
        check("worker \(url)", error.description)
      }
    }
  }

  /// A worker without the only model that is served gets no request.
  private static func mismatch(_ models: [String], _ wanted: String?) -> String? {
    guard let wanted, !models.contains(wanted) else { return nil }
    return "--model-name is \(wanted)"
  }

  private static func list(_ models: [String]) -> String {
    models.prefix(3).joined(separator: ", ") + (models.count > 3 ? " and \(models.count - 3) more" : "")
  }
}
