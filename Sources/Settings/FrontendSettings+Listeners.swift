// The frontend's settings of sockets: where it listens, how the next process takes over, which peers are proxies.

import Base

extension SettingsTable {
  static let frontendListeners: [SettingDefinition] = [
    SettingDefinition(
      "listen", "DYN_HTTP_LISTEN", .list, unset: "host and port above", placeholder: "ADDRESS",
      group: "Server",
      "Listen here instead of on --http-host and --http-port: host:port, [::]:8000 or unix:/path. May be given several times."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_UNIX_SOCKET_MODE", .string, fallback: "0660", placeholder: "MODE", group: "Server",
      "Permissions, in octal, of the files of Unix sockets that are listened on."),
    SettingDefinition(
      "handover", "DYN_HTTP_HANDOVER", .string, unset: "off", placeholder: "PATH", group: "Server",
      "Unix socket by which the next process takes the listening sockets over: one that starts with the same path does, and this one drains."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_PROXY_PROTOCOL_PEERS", .list, unset: "none", placeholder: "NETWORKS", group: "Server",
      live: true,
      "Addresses or networks of proxies, or unix, whose connections begin with a PROXY protocol header of version 2, and must."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_TRUSTED_PROXIES", .list, unset: "none", placeholder: "NETWORKS", group: "Server",
      live: true,
      "Addresses or networks of proxies, or unix, whose forwarded or x-forwarded-* headers are believed and passed on; others' are dropped."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_FORWARDED_HEADER", .choice(["x-forwarded-for", "forwarded"]),
      fallback: "x-forwarded-for",
      group: "Server", live: true,
      "The header in which trusted proxies tell of their client; the other one is dropped, as they may pass on what a caller wrote there."
    ),
    SettingDefinition(
      nil, "DYN_HTTP_CORS_ORIGINS", .list, unset: "off", placeholder: "ORIGINS", group: "Server", live: true,
      "Origins whose pages may call this server from a browser (https://chat.example.com), or * for all."),
    SettingDefinition(
      nil, "DYN_HTTP_GZIP", .boolean, fallback: "false", group: "Server", live: true,
      "Compress whole JSON answers of 1 KiB or more for callers that accept gzip; streams are never compressed."
    ),
  ]
}
