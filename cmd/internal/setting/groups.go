package setting

import (
	"path/filepath"

	"github.com/alecthomas/kong"
)

// The settings that several programs share, to be embedded in their commands. Names, variables and defaults are those of
// docs/configuration.md.

// Log is how a program speaks to its operator.
type Log struct {
	Level  Choice `name:"log-level" env:"LOG_LEVEL" default:"info" oneof:"debug info warn error" placeholder:"LEVEL" group:"Log:" help:"debug, info, warn or error (default: ${default})."`
	Format Choice `name:"log-format" env:"LOG_FORMAT" default:"" oneof:"text json" placeholder:"FORMAT" group:"Log:" help:"text or json (default: text on a terminal, else json)."`
}

// Ledger is how much the streams keep, and how safely.
type Ledger struct {
	Age       Duration `name:"ledger-age" env:"LEDGER_AGE" default:"720h" min:"1h" max:"87600h" placeholder:"DURATION" group:"Ledger:" help:"How long events are kept (default: ${default})."`
	Size      Size     `name:"ledger-size" env:"LEDGER_SIZE" default:"4GiB" min:"1MiB" placeholder:"SIZE" group:"Ledger:" help:"How much room they may take: KiB, MiB, GiB or TiB (default: ${default})."`
	AuditAge  Duration `name:"audit-age" env:"AUDIT_AGE" default:"2160h" min:"1h" max:"87600h" placeholder:"DURATION" group:"Ledger:" help:"How long the audit trail is kept (default: ${default})."`
	AuditSize Size     `name:"audit-size" env:"AUDIT_SIZE" default:"256MiB" min:"1MiB" placeholder:"SIZE" group:"Ledger:" help:"How much room it may take (default: ${default})."`
	Replicas  Number   `name:"replicas" env:"REPLICAS" default:"1" oneof:"1 3 5" placeholder:"N" group:"Ledger:" help:"Copies of every stream and bucket: 1, 3 or 5 (default: ${default})."`
}

// Keys are what tokens are signed with.
type Keys struct {
	Data       Text       `name:"data" env:"PILLION_DATA" default:"./data" placeholder:"FOLDER" group:"Storage:" help:"Where this program keeps its files (default: ${default})."`
	PrivateKey Text       `name:"private-key" env:"PRIVATE_KEY_FILE" placeholder:"FILE" group:"Tokens:" help:"RSA key that signs tokens, PEM, mode 0600 (default: keys/private.key in the data folder, made when missing). The keys that follow it stand beside it."`
	JWTExpiry  Duration   `name:"jwt-expiry" env:"JWT_EXPIRY" default:"15m" min:"1s" max:"24h" placeholder:"DURATION" group:"Tokens:" help:"How long a token is good for, 24h at most (default: ${default})."`
	KeyAge     Duration   `name:"key-age" env:"KEY_AGE" default:"720h" min:"1m" max:"87600h" off:"only by command" placeholder:"DURATION" group:"Tokens:" help:"After how long the signing key is replaced by the next one; 0 is only by command (default: ${default})."`
	Retention  Duration   `name:"key-retention" env:"KEY_RETENTION" default:"0s" min:"0s" max:"876000h" placeholder:"DURATION" group:"Tokens:" help:"How long a retired key goes on verifying what it signed, the ledger's age at least (default: that and a day)."`
	Services   Text       `name:"services" env:"SERVICES_DIR" placeholder:"FOLDER" group:"Storage:" help:"Where the public keys of our own services are, <service>.pub (default: services in the data folder)."`
	Service    Duration   `name:"service-expiry" env:"SERVICE_EXPIRY" default:"30m" min:"1m" max:"24h" placeholder:"DURATION" group:"Tokens:" help:"How long a token of our own services is good for (default: ${default})."`
	Accounts   AccountsAt `name:"accounts" env:"ACCOUNTS" default:"nats" placeholder:"WHERE" group:"Storage:" help:"Where accounts are: nats, or PostgreSQL at postgres://user:password@host/database (default: ${default})."`
	Approve    Switch     `name:"approve-riders" env:"APPROVE_RIDERS" group:"Tokens:" help:"Let new raiders log in only when an operator has approved their account."`
	Sessions
	Logins
	Demo Switch `name:"demo" env:"PILLION_DEMO" group:"Tokens:" help:"Make the accounts john@example.com (user) and rider@example.com (raider), both with the password password123."`
}

// Sessions are how long somebody stays logged in.
type Sessions struct {
	Life  Duration `name:"session-life" env:"SESSION_LIFE" default:"168h" min:"1m" max:"168h" placeholder:"DURATION" group:"Tokens:" help:"How long a session lasts from its login, however much it is used, 168h at most (default: ${default})."`
	Idle  Duration `name:"session-idle" env:"SESSION_IDLE" default:"72h" min:"1m" off:"no such limit" max:"168h" placeholder:"DURATION" group:"Tokens:" help:"How long it lasts from one refresh to the next; 0 is no such limit (default: ${default})."`
	Grace Duration `name:"refresh-grace" env:"REFRESH_GRACE" default:"10s" min:"0s" max:"1m" placeholder:"DURATION" group:"Tokens:" help:"How long a refresh may be asked for again whose answer got lost; 0 is never (default: ${default})."`

	CookiePath CookiePath `name:"cookie-path" env:"COOKIE_PATH" default:"/" placeholder:"PATH" group:"Tokens:" help:"How the paths begin under which browsers know /refresh and /logout, such as /auth behind a proxy that serves authsvc there (default: ${default})."`
}

// Logins are how often somebody may try to prove who they are.
type Logins struct {
	LoginLimit   Count `name:"login-limit" env:"LOGIN_LIMIT" default:"5" min:"1" max:"1000" placeholder:"N" group:"Limits:" help:"Wrong passwords for one account before each further try has to wait, 1 s and then twice as long each time (default: ${default})."`
	AddressLimit Count `name:"address-limit" env:"ADDRESS_LIMIT" default:"100" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Wrong passwords, and registrations, from one network before the same (default: ${default})."`
}

// HTTP is how requests are taken.
type HTTP struct {
	RequestLimit   Count    `name:"request-limit" env:"REQUEST_LIMIT" default:"6000" min:"0" max:"1000000000" placeholder:"N" group:"Limits:" help:"Requests a minute that one network may make to each service; 0 is no limit (default: ${default})."`
	TrustedProxies Networks `name:"trusted-proxies" env:"TRUSTED_PROXIES" default:"" placeholder:"NETWORKS" group:"Limits:" help:"Proxies whose X-Forwarded-For or Forwarded tells where a request comes from, such as 10.0.0.0/8 (default: none)."`
}

// TLS is what HTTP clients are shown.
type TLS struct {
	Cert Text `name:"tls-cert" env:"TLS_CERT_FILE" placeholder:"FILE" group:"TLS:" help:"Serve HTTPS with this certificate, PEM, with those between it and the CA; it is read again when it changes (default: plain HTTP)."`
	Key  Text `name:"tls-key" env:"TLS_KEY_FILE" placeholder:"FILE" group:"TLS:" help:"Its private key, PEM, mode 0600."`
}

// Rides is what the services of users and of riders must agree upon.
type Rides struct {
	Deadline Duration `name:"booking-deadline" env:"BOOKING_DEADLINE" default:"2m" min:"1s" max:"24h" placeholder:"DURATION" group:"Bookings:" help:"How long a booking waits for a rider, and once more when a rider gives it back (default: ${default})."`
	Patience Duration `name:"pickup-patience" env:"PICKUP_PATIENCE" default:"10m" min:"1s" max:"24h" off:"for ever" placeholder:"DURATION" group:"Bookings:" help:"How long a raider who has accepted may neither arrive nor come nearer, until the booking goes to others; 0 is for ever (default: ${default})."`
	Secret   Text     `name:"rides-secret" env:"RIDES_SECRET_FILE" placeholder:"FILE" group:"Storage:" help:"The secret that usersvc and ridersvc share, mode 0600; start codes come from it (default: rides.secret beside the service's key, made when missing)."`
}

// SecretPath returns where the secret is: beside the file of a service's key, unless another place is named.
func (r Rides) SecretPath(serviceKey string) string {
	if r.Secret.Value != "" {
		return r.Secret.Value
	}
	return filepath.Join(filepath.Dir(serviceKey), "rides.secret")
}

// Streams are how many may watch.
type Streams struct {
	PerAccount Count `name:"stream-limit" env:"STREAM_LIMIT" default:"10" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Streams that one account may have open at each instance (default: ${default})."`
	Total      Count `name:"streams" env:"STREAMS" default:"10000" min:"1" max:"1000000" placeholder:"N" group:"Limits:" help:"Streams that each service's instance has open at most (default: ${default})."`
}

// Bookings are the rules of booking a ride.
type Bookings struct {
	Limit  Count  `name:"book-limit" env:"BOOK_LIMIT" default:"60" min:"0" max:"1000000000" placeholder:"N" group:"Limits:" help:"Bookings a minute that one user may make at each instance; 0 is no limit (default: ${default})."`
	Tariff Tariff `name:"tariff" env:"TARIFF_FILE" default:"" placeholder:"FILE" group:"Bookings:" help:"What rides cost, a JSON file (default: a tariff for trying it)."`
}

// Fleet is what is made of where riders are.
type Fleet struct {
	PositionAge Duration `name:"position-age" env:"POSITION_AGE" default:"60s" min:"5s" max:"1h" placeholder:"DURATION" group:"Bookings:" help:"After how long without a report of its position a raider counts as offline, and is given no booking with a pickup unless it names one (default: ${default})."`
	Radius      Count    `name:"search-radius" env:"SEARCH_RADIUS" default:"3000" min:"100" max:"50000" placeholder:"METRES" group:"Bookings:" help:"How far bookings and raiders are looked for, unless a request says so (default: ${default})."`
}

// Arrival is what riders must show at a pickup.
type Arrival struct {
	Within Count `name:"arrive-within" env:"ARRIVE_WITHIN" default:"500" min:"0" max:"50000" placeholder:"METRES" group:"Bookings:" help:"How near to the pickup a raider must be, by a position no older than --position-age, to say that it has arrived; 0 is anywhere (default: ${default})."`
}

// Snapshots are how often the board is kept for the next start.
type Snapshots struct {
	Every  Duration `name:"snapshot-every" env:"SNAPSHOT_EVERY" default:"15m" min:"1s" max:"24h" off:"never" placeholder:"DURATION" group:"Ledger:" help:"How often a snapshot of all bookings is made, by one of the instances, for quick starts; 0 is never, and none is used (default: ${default})."`
	Events Count    `name:"snapshot-events" env:"SNAPSHOT_EVENTS" default:"50000" min:"1" max:"1000000000" placeholder:"N" group:"Ledger:" help:"After how many events one is made before that, ten times as often at most (default: ${default})."`
}

// Remote is a NATS server elsewhere.
type Remote struct {
	URL NATSURL `name:"nats-url" env:"NATS_URL" default:"nats://127.0.0.1:4222" placeholder:"URL" group:"NATS:" help:"The NATS server; several URLs are separated by commas (default: ${default})."`
	CA  Text    `name:"nats-ca" env:"NATS_CA_FILE" placeholder:"FILE" group:"NATS:" help:"The CAs whose NATS servers are trusted, PEM; with it nothing is sent that is not encrypted (default: the system's, where the server or tls:// asks for encryption)."`
}

// Profile offers the profiles of package net/http/pprof on the ops address.
type Profile struct {
	PProf Switch `name:"pprof" env:"PILLION_PPROF" group:"Operations:" help:"Serve /debug/pprof on the ops address."`
}

// ServiceKey is what a service proves with that it is itself.
type ServiceKey struct {
	File Text `name:"service-key" env:"SERVICE_KEY_FILE" placeholder:"FILE" group:"Storage:" help:"The seed of the service's nkey, mode 0600, made when missing (default: data/services/NAME.nk, after the service)."`
}

// Path returns where the key of a service is.
func (k ServiceKey) Path(service string) string {
	if k.File.Value != "" {
		return k.File.Value
	}
	return filepath.Join("data", "services", service+".nk")
}

// Version is the flag --version.
type Version struct {
	Version kong.VersionFlag `name:"version" help:"Print the version."`
}

// ServicesDir returns where the public keys of services are.
func (k Keys) ServicesDir() string {
	if k.Services.Value != "" {
		return k.Services.Value
	}
	return filepath.Join(k.Data.Value, "services")
}

// KeyFile returns where the private key is.
func (k Keys) KeyFile() string {
	if k.PrivateKey.Value != "" {
		return k.PrivateKey.Value
	}
	return filepath.Join(k.Data.Value, "keys", "private.key")
}
