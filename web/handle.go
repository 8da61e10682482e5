package web

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// A HandlerFunc answers a request, or returns why it could not. It returns an error before it writes anything.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handle makes an http.HandlerFunc of h: what h returns is answered by [WriteError].
func Handle(h HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			WriteError(w, r, err)
		}
	}
}

// WriteJSON answers with v as JSON. It fails only where v cannot be encoded, and then nothing was written; that the client has
// left is no error.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}
