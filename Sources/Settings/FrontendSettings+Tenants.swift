// Settings of API keys: where they are, and what they guard.

import Base

extension SettingsTable {
  static let frontendTenants: [SettingDefinition] = [
    SettingDefinition(
      "api-key-file", "DYN_API_KEY_FILE", .string, unset: "no key is asked for", placeholder: "FILE",
      group: "Tenants", live: true,
      """
      File of API keys, hashed, one a line with its tenant and limits; requests to the API then need one of them. \
      The file is read again on SIGHUP.
      """),
    SettingDefinition(
      nil, "DYN_API_KEY_SYSTEM_ROUTES", .boolean, fallback: "false", group: "Tenants", live: true,
      "Ask for a key on /health, /live, /ready, /metrics and /version too."),
    SettingDefinition(
      nil, "DYN_API_KEY_FORWARD", .boolean, fallback: "false", group: "Tenants", live: true,
      "Pass the caller's key on to the worker, as happens where no key is asked for."),
  ]
}
