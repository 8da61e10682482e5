// Package web is what Pillion's services have in common over HTTP: routing with a log line and metrics for each request, strict
// reading of bodies and credentials, answers to failures, and serving that ends in order.
//
// Begin with [NewRouter], guard routes with [Require], write handlers as [HandlerFunc] and mount them with [Handle]; [Serve] runs
// the result until its context ends. A handler decides nothing about statuses: it returns a fault, and [WriteError] alone turns
// the fault's kind into one.
//
// Nothing here logs a credential, a body or a query string. A client's address is never taken from a header.
package web
