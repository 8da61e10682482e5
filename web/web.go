// Package web is the HTTP code that Pillion's services share: routing with logs and metrics, strict
// decoding of bodies and credentials, error answers, event streams, and a server that stops in
// order.
//
// Begin with [NewRouter]. Protect routes with [Require], write handlers as [HandlerFunc], and mount
// them with [Handle]. [Limits.Serve] runs the router until its context ends. A handler returns a
// fault, and [WriteError] turns the fault's kind into an HTTP status.
//
// The package never logs a credential, a body or a query string. It takes a client's address from a
// header only if a trusted proxy has sent it.
package web
