package authsvc_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"testing"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/bound"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
)

// bind returns a bucket whose values only authsvc can write.
func bind(c *bus.Conn, bucket string) *bound.Bucket {
	key := bytes.Repeat([]byte{7}, bound.KeySize)
	return bound.Bind(c, bucket, key, slog.New(slog.DiscardHandler), nil)
}

// TestAForgedAccountLogsNobodyIn writes the account of somebody else straight into the bucket, with
// a password that the forger knows.
func TestAForgedAccountLogsNobodyIn(t *testing.T) {
	conn := bustest.Run(t).Connect(t)
	records := bind(conn, bus.AccountsBucket)
	k := newKit(t, withStore(authsvc.NewAccounts(records)))
	k.mustRegister(t, "mallory@example.com", goodPassword, "user")
	k.mustRegister(t, "kim@example.com", newPassword, "user")
	keys, err := records.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Fatal(keys, err)
	}
	var values [2][]byte
	var revisions [2]uint64
	for i, key := range keys {
		if values[i], revisions[i], err = records.Bucket.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	kim := slices.IndexFunc(values[:], func(v []byte) bool { return bytes.Contains(v, []byte("kim@")) })
	hash := regexp.MustCompile(`"hash":"[^"]*"`)
	forged := hash.ReplaceAllLiteral(values[kim], hash.Find(values[1-kim]))
	if _, err := records.Bucket.Update(t.Context(), keys[kim], forged, revisions[kim]); err != nil {
		t.Fatal(err)
	}
	k.ask(t, post("/login", body("kim@example.com", goodPassword, "user")), http.StatusInternalServerError, "")
	if records.Ready(t.Context()) == nil {
		t.Error("authsvc is ready")
	}
	k.mustOpen(t, "mallory@example.com", goodPassword, "user")
}
