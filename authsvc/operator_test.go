package authsvc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/example/pillion/authsvc"
	"github.com/example/pillion/authsvc/authtest"
	"github.com/example/pillion/bus"
	"github.com/example/pillion/bus/bustest"
	"github.com/example/pillion/token"
)

func (k *kit) operator() *authsvc.Operator {
	return authsvc.NewOperator(k.config.Accounts, k.revoked.add, time.Now)
}

func withApproval(c *authsvc.Config, _ *authsvc.HasherConfig) { c.ApproveRiders = true }

func setByCode(email, role, code, next string) *http.Request {
	return post("/password", `{"email":"`+email+`","role":"`+role+`","code":"`+code+`","new":"`+next+`"}`)
}

// wantRefused fails t unless the credentials are refused.
func wantRefused(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code != http.StatusUnauthorized || w.Body.String() != "Invalid credentials" {
		t.Errorf("answer %d %q, want that the credentials are nobody's", w.Code, w.Body)
	}
}

func TestDisabledAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		open := k.kim(t)
		o, kim := k.operator(), k.account(t, "kim@example.com", token.User)
		for range 2 { // it may be repeated
			after(2 * time.Second)
			if _, err := o.Disable(t.Context(), kim); err != nil {
				t.Fatal(err)
			}
			k.wantTakenBack(t, open.Token)
			k.wantNoRefresh(t, open.Refresh)
			wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
		}
		if _, err := o.Enable(t.Context(), kim); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Second)
		k.mustOpen(t, "kim@example.com", goodPassword, "user")
		k.wantTakenBack(t, open.Token)
	})
}

func TestOperatorsDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &away{Accounts: new(authtest.Accounts)}
		k := newKit(t, withStore(store))
		open := k.kim(t)
		k.mustRegister(t, "kim@example.com", goodPassword, "raider")
		o, kim := k.operator(), k.account(t, "kim@example.com", token.User)
		k.revoked.fail(bus.ErrUnavailable)
		if _, err := o.Delete(t.Context(), kim); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("Delete = %v, while no token can be taken back", err)
		}
		k.revoked.fail(nil)
		store.deletes = true
		if _, err := o.Delete(t.Context(), kim); !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("Delete = %v, while the store is away", err)
		}
		k.wantTakenBack(t, open.Token)
		wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
		store.deletes = false
		if gone, err := o.Delete(t.Context(), kim); err != nil || gone.ID != kim.ID {
			t.Errorf("Delete = %v, %v", gone, err)
		}
		k.wantGone(t, open)
		if _, err := o.Delete(t.Context(), kim); !errors.Is(err, authsvc.ErrUnknownAccount) {
			t.Errorf("a second Delete = %v, want ErrNobody", err)
		}
		after(2 * time.Second)
		k.mustOpen(t, "kim@example.com", goodPassword, "raider")
		anew := k.kim(t)
		if _, err := o.Delete(t.Context(), kim); !errors.Is(err, authsvc.ErrUnknownAccount) {
			t.Errorf("Delete of somebody whose email another has = %v, want ErrNobody", err)
		}
		k.mustVerify(t, anew.Token)
		if _, err := o.Delete(t.Context(), authsvc.Account{Demo: true}); !errors.Is(err, authsvc.ErrDemoAccount) {
			t.Errorf("Delete of a demo account = %v", err)
		}
	})
}

func TestOperatorsRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		open := k.kim(t)
		o, kim := k.operator(), k.account(t, "kim@example.com", token.User)
		after(40 * time.Second)
		since := time.Now().Add(-30 * time.Second)
		if _, err := o.Revoke(t.Context(), kim, time.Now().Add(time.Second)); !errors.Is(err, authsvc.ErrAsOf) {
			t.Errorf("as of a time to come: %v", err)
		}
		if _, err := o.Revoke(t.Context(), kim, since); err != nil {
			t.Fatal(err)
		}
		if all := k.revoked.take(); len(all) != 1 || !all[0].At.Equal(since.UTC().Truncate(time.Microsecond)) ||
			all[0].Subject != kim.ID {
			t.Errorf("revoked %+v, want as of %s", all, since)
		}
		k.wantTakenBack(t, open.Token)
		k.wantNoRefresh(t, open.Refresh)
		k.mustOpen(t, "kim@example.com", goodPassword, "user") // the account itself is as it was
	})
}

// After a reset the old password is void. The code sets a new one once, within the hour, for its
// account only.
func TestPasswordReset(t *testing.T) {
	k := newKit(t)
	open := k.kim(t)
	k.mustRegister(t, "mal@example.com", goodPassword, "user")
	o, kim := k.operator(), k.account(t, "kim@example.com", token.User)
	first, _, err := o.ResetPassword(t.Context(), kim)
	if err != nil {
		t.Fatal(err)
	}
	code, changed, err := o.ResetPassword(t.Context(), kim)
	if err != nil || !regexp.MustCompile(`^([0-9a-hj-kmnp-tv-z]{4}-){3}[0-9a-hj-kmnp-tv-z]{4}$`).MatchString(code) ||
		code == first {
		t.Fatalf("code %q (%v)", code, err)
	}
	if strings.Contains(changed.Reset, strings.ReplaceAll(code, "-", "")) || changed.Reset == "" {
		t.Errorf("stored as %q", changed.Reset)
	}
	k.wantTakenBack(t, open.Token)
	k.wantNoRefresh(t, open.Refresh)
	wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
	wantRefused(t, k.do(post("/password",
		`{"email":"kim@example.com","role":"user","current":"`+goodPassword+`","new":"`+newPassword+`"}`)))
	for name, r := range map[string]*http.Request{
		"an earlier code":    setByCode("kim@example.com", "user", first, newPassword),
		"another's account":  setByCode("mal@example.com", "user", code, newPassword),
		"another role":       setByCode("kim@example.com", "raider", code, newPassword),
		"nobody's account":   setByCode("nobody@example.com", "user", code, newPassword),
		"a wrong code":       setByCode("kim@example.com", "user", "aaaa-aaaa-aaaa-aaaa", newPassword),
		"no code":            setByCode("kim@example.com", "user", "", newPassword),
		"the hash as a code": setByCode("kim@example.com", "user", changed.Reset, newPassword),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, k.ask(t, r, http.StatusUnauthorized, "")) })
	}
	k.ask(t, post("/password",
		`{"email":"kim@example.com","role":"user","code":"`+code+`","current":"x","new":"`+newPassword+`"}`),
		http.StatusBadRequest, "but not both")
	k.ask(t, post("/password", `{"email":"kim@example.com","role":"user","code":"`+code+`","new":"short"}`),
		http.StatusBadRequest, "too short")

	typed := strings.ToUpper(strings.ReplaceAll(code, "-", " "))
	k.ask(t, setByCode("kim@example.com", "user", typed, newPassword), http.StatusOK,
		`{"status":true,"message":"Password Changed"}`)
	wantRefused(t, k.do(setByCode("kim@example.com", "user", code, newPassword+"!")))
	k.mustOpen(t, "kim@example.com", newPassword, "user")
	if strings.Contains(k.log.String(), code) {
		t.Error("the code is in the log")
	}
}

func TestResetCodesRunOut(t *testing.T) {
	now := time.Now()
	k := newKit(t, func(c *authsvc.Config, _ *authsvc.HasherConfig) { c.Now = func() time.Time { return now } })
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	code, _, err := k.operator().ResetPassword(t.Context(), k.account(t, "kim@example.com", token.User))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(authsvc.ResetLife + time.Second)
	wantRefused(t, k.do(setByCode("kim@example.com", "user", code, newPassword)))
	// And the old password stays void.
	wantRefused(t, k.do(post("/login", body("kim@example.com", goodPassword, "user"))))
}

// Of any number of uses of a code at once, on two instances, one sets its password.
func TestResetCodesAreGoodOnce(t *testing.T) {
	bustest.Sizes(t, func(t *testing.T, e *bustest.Env) {
		var instances []*kit
		for range 2 {
			instances = append(instances,
				newKit(t, withStore(authsvc.NewAccounts(e.Connect(t).Bucket(bus.AccountsBucket)))))
		}
		k := instances[0]
		k.mustRegister(t, "kim@example.com", goodPassword, "user")
		code, _, err := k.operator().ResetPassword(t.Context(), k.account(t, "kim@example.com", token.User))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		answers := make(map[int]int)
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				w := instances[i%2].do(setByCode("kim@example.com", "user", code, newPassword+string(rune('a'+i))))
				mu.Lock()
				defer mu.Unlock()
				answers[w.Code]++
			})
		}
		all.Wait()
		if answers[http.StatusOK] != 1 || answers[http.StatusUnauthorized] != 7 {
			t.Errorf("answers %v, want one success", answers)
		}
	})
}

func TestApproval(t *testing.T) {
	accounts := new(authtest.Accounts)
	early := newKit(t, withStore(accounts))
	early.mustRegister(t, "early@example.com", goodPassword, "raider")
	k := newKit(t, withStore(accounts), withApproval, withDemo)
	if err := k.service.SeedDemo(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.ask(t, post("/register", body("rita@example.com", goodPassword, "raider")), http.StatusCreated,
		`{"status":true,"message":"Registration Successful","pending":true}`)
	k.ask(t, post("/register", body("rita@example.com", goodPassword, "user")), http.StatusCreated,
		`{"status":true,"message":"Registration Successful"}`)
	k.hashes.take()
	const sentence = "Your account is waiting for approval. You can log in once it has been approved."
	if w := k.ask(t, post("/login", body("rita@example.com", goodPassword, "raider")), http.StatusForbidden,
		""); w.Body.String() != sentence {
		t.Errorf("a pending account is told %q", w.Body)
	}
	// Who cannot log in learns nothing.
	wantRefused(t, k.do(post("/login", body("rita@example.com", "wrong password", "raider"))))
	wantCosts(t, k.hashes.take(), lightCost, lightCost)
	for _, who := range []string{"early@example.com", "rider@example.com"} {
		password := goodPassword
		if who == "rider@example.com" {
			password = "password123"
		}
		k.mustOpen(t, who, password, "raider")
	}
	k.mustOpen(t, "rita@example.com", goodPassword, "user")
	if _, err := k.operator().Approve(t.Context(), k.account(t, "rita@example.com", token.Rider)); err != nil {
		t.Fatal(err)
	}
	k.mustOpen(t, "rita@example.com", goodPassword, "raider")
}

func TestOperatorFinds(t *testing.T) {
	k := newKit(t)
	k.mustRegister(t, "kim@example.com", goodPassword, "user")
	k.mustRegister(t, "kim@example.com", goodPassword, "raider")
	k.mustRegister(t, "una@example.com", goodPassword, "user")
	o, una := k.operator(), k.account(t, "una@example.com", token.User)
	for _, c := range []struct {
		who, role string
		want      token.Role
		err       error
	}{
		{"kim@example.com", "user", token.User, nil},
		{"KIM@Example.com", "rider", token.Rider, nil},
		{"kim@example.com", "", "", authsvc.ErrWhichRole},
		{"una@example.com", "", token.User, nil},
		{una.ID, "", token.User, nil},
		{una.ID, "user", token.User, nil},
		{una.ID, "raider", "", authsvc.ErrUnknownAccount},
		{"una@example.com", "raider", "", authsvc.ErrUnknownAccount},
		{"nobody@example.com", "", "", authsvc.ErrUnknownAccount},
		{"unaunaunaunaunaunaunaunaun", "", "", authsvc.ErrUnknownAccount},
		{"una@example.com", "admin", "", authsvc.ErrInvalidRole},
	} {
		if a, err := o.Find(t.Context(), c.who, c.role); !errors.Is(err, c.err) || a.Role != c.want || c.err == nil &&
			err != nil {
			t.Errorf("Find(%s, %s) = %v, %v; want %s, %v", c.who, c.role, a, err, c.want, c.err)
		}
	}
	seen := 0
	if err := o.Each(t.Context(), func(authsvc.Account) error { seen++; return nil }); err != nil || seen != 3 {
		t.Errorf("%d accounts, %v", seen, err)
	}
	if code, _, err := o.ResetPassword(t.Context(), authsvc.Account{Demo: true}); !errors.Is(err,
		authsvc.ErrDemoPassword) || code != "" {
		t.Errorf("ResetPassword of a demo account = %q, %v", code, err)
	}
	if _, err := o.Disable(t.Context(), authsvc.Account{ID: "gone", Email: "una@example.com",
		Role: token.User}); !errors.Is(err, authsvc.ErrUnknownAccount) {
		t.Errorf("an account that is another by now: %v", err)
	}
	k.revoked.fail(bus.ErrUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := o.Disable(ctx, una); err == nil {
		t.Error("tokens could not be taken back, and all went well")
	}
	if a := k.account(t, "una@example.com", token.User); !a.Disabled {
		t.Error("the account is not disabled, though that comes first")
	}
}
