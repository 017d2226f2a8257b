// What the settings say of workers and requests that fail.

package import Base
package import Settings
package import Workers

extension OutlierRules {
  package init(_ settings: SettingsValues) {
    self.init()
    rowMax = settings.int("DYN_OUTLIER_CONSECUTIVE_FAILURES")
    let percent = settings.int("DYN_OUTLIER_ERROR_PERCENT")
    window = settings.duration("DYN_OUTLIER_WINDOW_SECS")
    faultShare = percent > 0 && window > 0 ? Double(percent) / 100 : nil
    requestsMin = settings.int("DYN_OUTLIER_MIN_REQUESTS")
    ejection = settings.duration("DYN_OUTLIER_EJECTION_SECS")
    ejectionMax = settings.duration("DYN_OUTLIER_EJECTION_MAX_SECS")
    slowStart = settings.duration("DYN_OUTLIER_SLOW_START_SECS")
    panicShare = Double(settings.int("DYN_OUTLIER_PANIC_PERCENT")) / 100
  }
}

extension CanaryConfiguration {
  /// Nil where canaries are off.
  package init?(_ settings: SettingsValues) {
    guard settings.bool("DYN_HEALTH_CHECK_ENABLED") else { return nil }
    self.init()
    wait = max(settings.duration("DYN_CANARY_WAIT_TIME"), 100 * millisecond)
    timeout = settings.duration("DYN_HEALTH_CHECK_REQUEST_TIMEOUT")
    payload = Array((settings.optionalString("DYN_HEALTH_CHECK_PAYLOAD") ?? "").utf8)
  }
}

/// How far requests are repeated that a worker failed.
package struct RetryRules: Sendable, Equatable {
  /// Other workers that are asked at most before the answer begins.
  package var workersMax = 1
  /// Repeated requests in progress, as a share of all in progress, and those that there may be anyway.
  package var share = 0.2
  package var floor = 32
  /// How long an answer is waited for before another worker is asked as well; 0 for ever.
  package var hedgeAfter: Nanoseconds = 0

  package init() {}

  init(_ settings: SettingsValues) {
    workersMax = settings.int("DYN_RETRY_LIMIT")
    share = Double(settings.int("DYN_RETRY_BUDGET_PERCENT")) / 100
    floor = settings.int("DYN_RETRY_BUDGET_MIN")
    hedgeAfter = settings.duration("hedge-after-ms")
  }

  /// Whether one more request may be repeated.
  func allows(retries: Int, openRequests: Int) -> Bool {
    Double(retries) < Double(floor) + share * Double(openRequests)
  }
}
