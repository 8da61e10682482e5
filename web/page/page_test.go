package page_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/example/pillion/web"
	"github.com/example/pillion/web/page"
	"github.com/example/pillion/web/webtest"
)

// served returns the page, with each answer held against the document.
func served(t *testing.T) func(target string, headers ...string) *httptest.ResponseRecorder {
	r := web.NewRouter(web.RouterConfig{Service: "page"})
	page.Mount(r, page.Setup{Demo: true})
	checked := webtest.Checked(t, r, "../door/openapi.json")
	return func(target string, headers ...string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		checked.ServeHTTP(w, webtest.Request("GET", target, "", "", headers...))
		return w
	}
}

var link = regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`)

// TestPage loads the page as a browser does: what the page names is there, never changes, and comes
// from this origin. All of it is small.
func TestPage(t *testing.T) {
	get := served(t)
	w := get("/")
	index, h := w.Body.String(), w.Header()
	if w.Code != 200 || h.Get("Content-Type") != "text/html; charset=utf-8" || h.Get("Cache-Control") != "no-cache" {
		t.Fatalf("the page: %d %v", w.Code, h)
	}
	policy := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
		"frame-ancestors 'none'", "trusted-types 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(index, "{{") || regexp.MustCompile(`\son[a-z]+=|style=`).MatchString(index) {
		t.Errorf("the policy is %s, and the page\n%s", policy, index)
	}
	named := make(map[string]bool)
	total := len(index)
	for _, m := range link.FindAllStringSubmatch(index, -1) {
		if named[m[1]] {
			continue
		}
		named[m[1]] = true
		w := get(m[1], "Accept-Encoding", "br, gzip;q=0.8")
		total += w.Body.Len()
		if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" ||
			w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", m[1], w.Code, w.Header())
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		zipped, err := io.ReadAll(z)
		plain := get(m[1]).Body.String()
		if err != nil || string(zipped) != plain {
			t.Errorf("%s is something else when it is compressed (%v)", m[1], err)
		}
		if again := get(m[1], "If-None-Match", get(m[1]).Header().Get("Etag")); again.Code != http.StatusNotModified {
			t.Errorf("%s is sent again: %d", m[1], again.Code)
		}
		if w := get(m[1], "Accept-Encoding", "gzip;q=0"); w.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed for a client that does not want it", m[1])
		}
	}
	t.Logf("%d files, %d KiB", len(named), total>>10)
	if len(named) < 10 || total > 100<<10 {
		t.Errorf("%d files, %d bytes", len(named), total)
	}
	for _, gone := range []string{"/assets/0123456789abcdef/main.js", "/assets/main.js", "/assets/", "/index.html"} {
		if w := get(gone); w.Code != 404 {
			t.Errorf("%s: %d", gone, w.Code)
		}
	}
	if w := get("/?a=1"); w.Code != 400 {
		t.Errorf("an unknown parameter: %d", w.Code)
	}
}

// TestFiles reads the files of the page: each module imports what is there, no file names another
// origin, and none makes elements of text.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("files/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	imports := regexp.MustCompile(`from '\./([^']+)'`)
	forbidden := regexp.MustCompile(`https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function`)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range imports.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join("files", m[1])); err != nil {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
		shown := strings.ReplaceAll(string(text), `xmlns="http://www.w3.org/2000/svg"`, "")
		if found := forbidden.FindString(shown); found != "" {
			t.Errorf("%s has %s", name, found)
		}
		if lines := strings.Count(string(text), "\n"); lines > 400 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
}
