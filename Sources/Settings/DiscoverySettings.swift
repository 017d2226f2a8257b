// Settings of the stores in which workers are found: etcd's under Dynamo's names, Kubernetes' with ours.

import Base

extension SettingsTable {
  /// For both programs: workers register under the settings by which frontends find them.
  static let etcdDiscovery: [SettingDefinition] = [
    SettingDefinition(
      nil, "ETCD_ENDPOINTS", .list, fallback: "http://localhost:2379", placeholder: "URL",
      group: "Discovery", "Members of the etcd cluster (--discovery-backend etcd); one is used at a time."),
    SettingDefinition(
      nil, "ETCD_AUTH_USERNAME", .string, unset: "no user", placeholder: "NAME", group: "Discovery",
      "User of etcd."),
    SettingDefinition(
      nil, "ETCD_AUTH_PASSWORD", .string, unset: "no user", placeholder: "PASSWORD", group: "Discovery",
      secret: true, "The user's password."),
    SettingDefinition(
      nil, "ETCD_AUTH_CA", .string, unset: "the machine's own", placeholder: "FILE", group: "Discovery",
      "PEM file of the authorities that https:// members of etcd are verified by."),
    SettingDefinition(
      nil, "ETCD_AUTH_CLIENT_CERT", .string, unset: "none", placeholder: "FILE", group: "Discovery",
      "Certificate chain to show to etcd, as PEM."),
    SettingDefinition(
      nil, "ETCD_AUTH_CLIENT_KEY", .string, unset: "none", placeholder: "FILE", group: "Discovery",
      "The certificate's private key, as PEM."),
  ]

  static let etcdLease: [SettingDefinition] = [
    SettingDefinition(
      nil, "ETCD_LEASE_TTL", .integer(2...3_600), fallback: "10", placeholder: "SECONDS", group: "Discovery",
      "How long the worker's records stay in etcd after its last sign of life.")
  ]

  static let kubernetesDiscovery: [SettingDefinition] = [
    SettingDefinition(
      nil, "DYN_KUBE_LABEL_SELECTOR", .string, fallback: "app.kubernetes.io/name=dynamo-worker",
      placeholder: "SELECTOR", group: "Discovery",
      "Which EndpointSlices are workers' (--discovery-backend kubernetes); they have their service's labels."),
    SettingDefinition(
      nil, "DYN_KUBE_PORT_NAME", .string, fallback: "http", placeholder: "NAME", group: "Discovery",
      "Name of the workers' port; where there is but one port, that one is taken."),
    SettingDefinition(
      nil, "DYN_KUBE_NAMESPACE", .string, unset: "POD_NAMESPACE, else the service account's",
      placeholder: "NAME", group: "Discovery", "Kubernetes namespace of the workers."),
    SettingDefinition(
      nil, "DYN_KUBE_API_SERVER", .string, unset: "KUBERNETES_SERVICE_HOST and _PORT, by https",
      placeholder: "URL", group: "Discovery", "The Kubernetes API server."),
    SettingDefinition(
      nil, "DYN_KUBE_SERVICE_ACCOUNT", .string, unset: "/var/run/secrets/kubernetes.io/serviceaccount",
      placeholder: "DIR", group: "Discovery", "Folder with token, ca.crt and namespace."),
  ]
}
