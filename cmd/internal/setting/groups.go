package setting

import (
	"cmp"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/example/pillion/token/trustkey"
)

// The types of this file are settings that several programs embed in their commands.
// docs/configuration.md lists them.

// Log holds the settings of the log.
type Log struct {
	Level  Choice `name:"log-level" env:"LOG_LEVEL" default:"${log_level=info}" oneof:"debug info warn error" placeholder:"LEVEL" group:"Log:" help:"debug, info, warn or error (default: ${default})."`
	Format Choice `name:"log-format" env:"LOG_FORMAT" default:"" oneof:"text json" placeholder:"FORMAT" group:"Log:" help:"text or json (default: text on a terminal, else json)."`
}

// Ledger holds the limits and the replicas of streams.
type Ledger struct {
	Age       Duration `name:"ledger-age" env:"LEDGER_AGE" default:"720h" min:"1h" max:"87600h" placeholder:"DURATION" group:"Ledger:" help:"Retention of events (default: ${default})."`
	Size      Size     `name:"ledger-size" env:"LEDGER_SIZE" default:"4GiB" min:"1MiB" placeholder:"SIZE" group:"Ledger:" help:"Maximum size of the stream of events, in KiB, MiB, GiB or TiB (default: ${default})."`
	AuditAge  Duration `name:"audit-age" env:"AUDIT_AGE" default:"2160h" min:"1h" max:"87600h" placeholder:"DURATION" group:"Ledger:" help:"Retention of the audit trail (default: ${default})."`
	AuditSize Size     `name:"audit-size" env:"AUDIT_SIZE" default:"256MiB" min:"1MiB" placeholder:"SIZE" group:"Ledger:" help:"Maximum size of the audit trail (default: ${default})."`
	Replicas  Number   `name:"replicas" env:"REPLICAS" default:"1" oneof:"1 3 5" placeholder:"N" group:"Ledger:" help:"Copies of every stream and bucket: 1, 3 or 5 (default: ${default})."`
}

// Keys holds the settings of signing keys and tokens.
type Keys struct {
	Data       Text       `name:"data" env:"PILLION_DATA" default:"./data" placeholder:"FOLDER" group:"Storage:" help:"Folder for the files of this program (default: ${default})."`
	PrivateKey Text       `name:"private-key" env:"PRIVATE_KEY_FILE" placeholder:"FILE" group:"Tokens:" help:"RSA key that signs tokens, PEM, mode 0600 (default: keys/private.key in the data folder, created if missing). Later keys are stored in the same folder."`
	JWTExpiry  Duration   `name:"jwt-expiry" env:"JWT_EXPIRY" default:"15m" min:"1s" max:"24h" placeholder:"DURATION" group:"Tokens:" help:"Lifetime of a token, at most 24h (default: ${default})."`
	KeyAge     Duration   `name:"key-age" env:"KEY_AGE" default:"720h" min:"1m" max:"87600h" off:"only by command" placeholder:"DURATION" group:"Tokens:" help:"Age at which the signing key is rotated; 0 means only by command (default: ${default})."`
	Retention  Duration   `name:"key-retention" env:"KEY_RETENTION" default:"0s" min:"0s" max:"876000h" placeholder:"DURATION" group:"Tokens:" help:"How long a retired key continues to verify tokens; at least the ledger's retention (default: that and a day)."`
	Services   Text       `name:"services" env:"SERVICES_DIR" placeholder:"FOLDER" group:"Storage:" help:"Folder with the public keys of Pillion's services, <service>.pub (default: services in the data folder)."`
	Service    Duration   `name:"service-expiry" env:"SERVICE_EXPIRY" default:"30m" min:"1m" max:"24h" placeholder:"DURATION" group:"Tokens:" help:"Lifetime of a service's token (default: ${default})."`
	TrustKey   Text       `name:"trust-key" env:"TRUST_KEY_FILE" placeholder:"FILE" group:"Tokens:" help:"Trust key, which signs key sets and revocations, PEM, mode 0600 (default: trust.key beside authsvc's service key, created if missing)."`
	Accounts   AccountsAt `name:"accounts" env:"ACCOUNTS" default:"nats" placeholder:"WHERE" group:"Storage:" help:"Where accounts are stored: nats, or PostgreSQL at postgres://user:password@host/database (default: ${default})."`
	Approve    Switch     `name:"approve-riders" env:"APPROVE_RIDERS" group:"Tokens:" help:"Require an operator's approval of a new raider account before its first login."`
	Sessions
	Logins
	Demo Switch `name:"demo" env:"PILLION_DEMO" group:"Tokens:" help:"Create the accounts john@example.com (user) and rider@example.com (raider), both with the password password123."`
}

// Trust holds the file with the public half of the trust key.
type Trust struct {
	Anchor Text `name:"trust" env:"TRUST_FILE" placeholder:"FILE" group:"Storage:" help:"Public half of the trust key, PEM: key sets and revocations count if that key has signed them (default: trust.pub beside the service's key)."`
}

// AnchorPath returns the file with the public half of the trust key: by default trust.pub in the
// folder of the service's key.
func (t Trust) AnchorPath(serviceKey string) string {
	return cmp.Or(t.Anchor.Value, filepath.Join(filepath.Dir(serviceKey), trustkey.AnchorFile))
}

// Sessions holds the limits of login sessions.
type Sessions struct {
	Life  Duration `name:"session-life" env:"SESSION_LIFE" default:"168h" min:"1m" max:"168h" placeholder:"DURATION" group:"Tokens:" help:"Lifetime of a session from its login, at most 168h (default: ${default})."`
	Idle  Duration `name:"session-idle" env:"SESSION_IDLE" default:"72h" min:"1m" off:"no limit" max:"168h" placeholder:"DURATION" group:"Tokens:" help:"Lifetime of a session without a refresh; 0 means no limit (default: ${default})."`
	Grace Duration `name:"refresh-grace" env:"REFRESH_GRACE" default:"10s" min:"0s" max:"1m" placeholder:"DURATION" group:"Tokens:" help:"How long a client may repeat a refresh whose answer was lost; 0 means never (default: ${default})."`

	CookiePath CookiePath `name:"cookie-path" env:"COOKIE_PATH" default:"/" placeholder:"PATH" group:"Tokens:" help:"Path of the refresh cookie: the prefix of /refresh and /logout for browsers, such as /auth behind a proxy that serves authsvc there (default: ${default})."`
}

// Logins holds the limits on failed logins.
type Logins struct {
	LoginLimit   Count `name:"login-limit" env:"LOGIN_LIMIT" default:"5" min:"1" max:"1000" placeholder:"N" group:"Limits:" help:"Wrong passwords for one account before further attempts are delayed, by 1 s and then twice as long each time (default: ${default})."`
	AddressLimit Count `name:"address-limit" env:"ADDRESS_LIMIT" default:"100" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Wrong passwords, and registrations, from one network before they are delayed in the same way (default: ${default})."`
}

// HTTP holds the settings of request limits.
type HTTP struct {
	RequestLimit   Count    `name:"request-limit" env:"REQUEST_LIMIT" default:"6000" min:"0" max:"1000000000" placeholder:"N" group:"Limits:" help:"Requests per minute from one network to each service; 0 means no limit (default: ${default})."`
	PerNetwork     Count    `name:"connection-limit" env:"CONNECTION_LIMIT" default:"1000" min:"0" max:"1000000" placeholder:"N" group:"Limits:" help:"Open connections of one network to each process, and at most a quarter of --connections; 0 means no limit (default: ${default})."`
	Connections    Count    `name:"connections" env:"CONNECTIONS" default:"0" min:"0" max:"1000000" placeholder:"N" group:"Limits:" help:"Open connections to each process, and to the embedded NATS server as many again; 0 means as many as the limit on open files allows (default: ${default})."`
	TrustedProxies Networks `name:"trusted-proxies" env:"TRUSTED_PROXIES" default:"" placeholder:"NETWORKS" group:"Limits:" help:"Proxies whose X-Forwarded-For or Forwarded header names the client, such as 10.0.0.0/8 (default: none)."`
	Origins        WebURLs  `name:"cors-origins" env:"CORS_ORIGINS" default:"" placeholder:"ORIGINS" group:"Limits:" help:"Origins whose pages may call the services from a browser, such as https://app.example.com (default: none but the service's own)."`
}

// TLS holds the certificate of HTTP.
type TLS struct {
	Cert Text `name:"tls-cert" env:"TLS_CERT_FILE" placeholder:"FILE" group:"TLS:" help:"Serve HTTPS with this certificate chain, PEM; it is reloaded when it changes (default: plain HTTP)."`
	Key  Text `name:"tls-key" env:"TLS_KEY_FILE" placeholder:"FILE" group:"TLS:" help:"Its private key, PEM, mode 0600."`
}

// Rides holds the settings that usersvc and ridersvc must agree upon.
type Rides struct {
	Deadline Duration `name:"booking-deadline" env:"BOOKING_DEADLINE" default:"2m" min:"1s" max:"24h" placeholder:"DURATION" group:"Bookings:" help:"How long a booking waits for a raider, and again after a release (default: ${default})."`
	Patience Duration `name:"pickup-patience" env:"PICKUP_PATIENCE" default:"10m" min:"1s" max:"24h" off:"for ever" placeholder:"DURATION" group:"Bookings:" help:"How long a raider may neither arrive nor come nearer before the booking is released to others; 0 means for ever (default: ${default})."`
	Secret   Text     `name:"rides-secret" env:"RIDES_SECRET_FILE" placeholder:"FILE" group:"Storage:" help:"Secret that usersvc and ridersvc share, mode 0600; start codes are derived from it (default: rides.secret beside the service's key, created if missing)."`
}

// RidesSecret is the name of the secret's file.
const RidesSecret = "rides.secret"

// SecretPath returns the file of the secret: by default rides.secret in the folder of the service's
// key.
func (r Rides) SecretPath(serviceKey string) string {
	if r.Secret.Value != "" {
		return r.Secret.Value
	}
	return filepath.Join(filepath.Dir(serviceKey), RidesSecret)
}

// Streams holds the limits on event streams over HTTP.
type Streams struct {
	PerAccount Count `name:"stream-limit" env:"STREAM_LIMIT" default:"10" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Open event streams of one account at each instance (default: ${default})."`
	Total      Count `name:"streams" env:"STREAMS" default:"10000" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Open event streams at each instance of a service (default: ${default})."`
}

// Bookings holds the rules of booking a ride.
type Bookings struct {
	Limit  Count  `name:"book-limit" env:"BOOK_LIMIT" default:"60" min:"0" max:"1000000000" placeholder:"N" group:"Limits:" help:"Bookings per minute of one user at each instance; 0 means no limit (default: ${default})."`
	Open   Count  `name:"open-bookings" env:"OPEN_BOOKINGS" default:"20" min:"0" max:"1000000" placeholder:"N" group:"Limits:" help:"Open bookings of one user at a time; 0 means no limit (default: ${default})."`
	Near   Count  `name:"availability-limit" env:"AVAILABILITY_LIMIT" default:"60" min:"0" max:"1000000000" placeholder:"N" group:"Limits:" help:"Questions per minute of one user, at each instance, which raiders are near; 0 means no limit (default: ${default})."`
	Tariff Tariff `name:"tariff" env:"TARIFF_FILE" default:"" placeholder:"FILE" group:"Bookings:" help:"JSON file with the fares (default: a tariff for demonstrations)."`
}

// Fleet holds the settings of riders' positions.
type Fleet struct {
	PositionAge Duration `name:"position-age" env:"POSITION_AGE" default:"60s" min:"5s" max:"1h" placeholder:"DURATION" group:"Bookings:" help:"Age of a raider's last position at which it counts as offline; it then gets a booking with a pickup only by naming it (default: ${default})."`
	Radius      Count    `name:"search-radius" env:"SEARCH_RADIUS" default:"3000" min:"100" max:"50000" placeholder:"METRES" group:"Bookings:" help:"Search radius for bookings and raiders if a request has none (default: ${default})."`
}

// Arrival holds the condition for arriving at a pickup.
type Arrival struct {
	Within Count `name:"arrive-within" env:"ARRIVE_WITHIN" default:"500" min:"0" max:"50000" placeholder:"METRES" group:"Bookings:" help:"Maximum distance from the pickup at which a raider can arrive, by a position no older than --position-age; 0 means anywhere (default: ${default})."`
}

// Snapshots holds the schedule of board snapshots.
type Snapshots struct {
	Every  Duration `name:"snapshot-every" env:"SNAPSHOT_EVERY" default:"15m" min:"1s" max:"24h" off:"never" placeholder:"DURATION" group:"Ledger:" help:"How often one of the instances takes a snapshot of all bookings, for quick starts; 0 means never, and no snapshot is loaded (default: ${default})."`
	Events Count    `name:"snapshot-events" env:"SNAPSHOT_EVENTS" default:"50000" min:"1" max:"1000000000" placeholder:"N" group:"Ledger:" help:"Number of events after which a snapshot is due earlier, up to ten times as often (default: ${default})."`
}

// Remote holds the address of a remote NATS server.
type Remote struct {
	URL NATSURL `name:"nats-url" env:"NATS_URL" default:"nats://127.0.0.1:4222" placeholder:"URL" group:"NATS:" help:"URLs of the NATS servers, separated by commas (default: ${default})."`
	CA  Text    `name:"nats-ca" env:"NATS_CA_FILE" placeholder:"FILE" group:"NATS:" help:"CA certificates of the NATS servers, PEM; this makes TLS mandatory (default: the system's CAs, if the server or tls:// requires TLS)."`
}

// Profile serves the profiles of package net/http/pprof on the ops address, and allows that and
// other unsafe things on addresses that other machines can reach.
type Profile struct {
	PProf    Switch `name:"pprof" env:"PILLION_PPROF" group:"Operations:" help:"Serve /debug/pprof on the ops address."`
	Insecure Switch `name:"insecure" env:"PILLION_INSECURE" group:"Operations:" help:"Allow demo accounts and profiles although other machines can reach this one."`
}

// ServiceKey holds the file of a service's key.
type ServiceKey struct {
	File Text `name:"service-key" env:"SERVICE_KEY_FILE" placeholder:"FILE" group:"Storage:" help:"Seed of the service's nkey, mode 0600, created if missing (default: data/services/NAME.nk, named after the service)."`
}

// Path returns the key file of a service.
func (k ServiceKey) Path(service string) string {
	if k.File.Value != "" {
		return k.File.Value
	}
	return filepath.Join("data", "services", service+".nk")
}

// Ops is the address for operators, whose port is Program.Ops by default.
type Ops struct {
	OpsAddr Addr `name:"ops-addr" env:"OPS_ADDR" default:"127.0.0.1:${ops}" placeholder:"HOST:PORT" group:"Addresses:" help:"Address of /healthz, /readyz and /metrics (default: ${default})."`
}

// Serving has what every service sets.
type Serving struct {
	Ops
	Remote
	HTTP
	TLS
	Log
	Profile
	Trust
}

// Version is the flag --version.
type Version struct {
	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// ServicesDir returns the folder of the public keys of services.
func (k Keys) ServicesDir() string {
	if k.Services.Value != "" {
		return k.Services.Value
	}
	return filepath.Join(k.Data.Value, "services")
}

// TrustKeyPath returns the file of the trust key: by default trust.key in the folder of authsvc's
// own key.
func (k Keys) TrustKeyPath(serviceKey string) string {
	return cmp.Or(k.TrustKey.Value, filepath.Join(filepath.Dir(serviceKey), trustkey.KeyFile))
}

// KeyFile returns the file of the first private key.
func (k Keys) KeyFile() string {
	if k.PrivateKey.Value != "" {
		return k.PrivateKey.Value
	}
	return filepath.Join(k.Data.Value, "keys", "private.key")
}

// Board says who may see the board of the whole city.
type Board struct {
	Readers Accounts `name:"board-for" env:"BOARD_FOR" default:"" placeholder:"IDS" group:"Addresses:" help:"Accounts, by id, that see the board of all rides on the page; with --demo every account does (default: none)."`
}
