package web

import "context"

type stoppingKey struct{}

// withStopping returns ctx with another one, which ends when the server is told to stop: before the requests under way have to end.
func withStopping(ctx, stopping context.Context) context.Context {
	return context.WithValue(ctx, stoppingKey{}, stopping)
}

// stoppingOf returns the context that ends when the server of a request is told to stop. Under a server that is not [Serve]'s it never does.
func stoppingOf(ctx context.Context) context.Context {
	if stopping, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return stopping
	}
	return context.WithoutCancel(ctx)
}
