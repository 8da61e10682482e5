package web

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// A HandlerFunc answers a request, or returns an error before it has written anything.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handle returns h as an http.HandlerFunc. [WriteError] answers the errors of h.
func Handle(h HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			WriteError(w, r, err)
		}
	}
}

// WriteJSON answers with v as JSON. It fails, without writing, only if v cannot be encoded. It
// ignores that the client has left.
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
