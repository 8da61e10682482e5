// Package page is the page for people: book a ride, ride for others, watch a booking's events, and,
// where it is served, the board of the whole city.
//
// Call [Mount]. The page is plain ES modules and CSS in the program, and talks to the services on
// the address that serves it. It loads nothing from elsewhere, which its policy enforces.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/example/pillion/web"
)

// A Setup is what the page learns about the system that serves it.
type Setup struct {
	Demo  bool `json:"demo"`  // whether the demo accounts may sign in
	Board bool `json:"board"` // whether there is a board, for those who may see it
}

// Mount adds the page to a router, at / and below /assets/.
func Mount(r chi.Router, s Setup) {
	own := r.With(web.Query())
	own.Get("/", web.Handle(serveIndex))
	own.Get("/page.json", web.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		return web.WriteJSON(w, http.StatusOK, s)
	}))
	own.Get("/assets/{version}/{file}", web.Handle(serveAsset))
}

// policy is the Content-Security-Policy of the page: everything comes from this origin, and no
// script makes markup of text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

//go:embed files
var files embed.FS

// A bundle is the page as browsers get it.
type bundle struct {
	// names the contents of all files, and so changes with any of them
	version string
	index   asset
	assets  map[string]asset
}

// An asset is one file.
type asset struct {
	kind           string // its media type
	plain, gzipped []byte
}

// load makes the bundle when it is first asked for.
var load = sync.OnceValues(func() (bundle, error) {
	sub, err := fs.Sub(files, "files")
	if err != nil {
		return bundle{}, fmt.Errorf("read the page: %w", err)
	}
	return newBundle(sub)
})

// newBundle reads the files of the page. Modules import each other by relative names, so one folder
// whose name changes with any of them replaces a hash in each name, and no file has to be
// rewritten.
func newBundle(files fs.FS) (bundle, error) {
	b := bundle{assets: make(map[string]asset)}
	sum, preload := sha256.New(), new(strings.Builder)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		if path.Ext(name) == ".js" && name != "main.js" {
			fmt.Fprintf(preload, "<link rel=\"modulepreload\" href=\"{{assets}}/%s\">\n", name)
		}
		b.assets[name] = newAsset(name, text)
		return nil
	})
	if err != nil {
		return bundle{}, fmt.Errorf("read the page: %w", err)
	}
	b.version = hex.EncodeToString(sum.Sum(nil))[:16]
	const index = "index.html"
	text := strings.ReplaceAll(string(b.assets[index].plain), "{{preload}}", preload.String())
	b.index = newAsset(index, []byte(strings.ReplaceAll(text, "{{assets}}", "/assets/"+b.version)))
	delete(b.assets, index)
	return b, nil
}

func newAsset(name string, text []byte) asset {
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is valid
	_, _ = z.Write(text)                                       // memory takes everything
	_ = z.Close()
	return asset{kind: kinds[path.Ext(name)], plain: text, gzipped: zipped.Bytes()}
}

// kinds are the media types of files. Those of package mime differ between machines.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// serveIndex answers GET /.
func serveIndex(w http.ResponseWriter, r *http.Request) error {
	b, err := load()
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "geolocation=(self), camera=(), microphone=(), payment=()")
	b.index.serve(w, r, b.version)
	return nil
}

// serveAsset answers GET /assets/{version}/{file}. What it serves never changes.
func serveAsset(w http.ResponseWriter, r *http.Request) error {
	b, err := load()
	if err != nil {
		return err
	}
	a, ok := b.assets[chi.URLParam(r, "file")]
	if !ok || chi.URLParam(r, "version") != b.version {
		return web.ErrNotFound
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	a.serve(w, r, b.version)
	return nil
}

// serve answers with the file, compressed for clients that ask for it. version names its contents.
func (a asset) serve(w http.ResponseWriter, r *http.Request, version string) {
	h, body := w.Header(), a.plain
	h.Set("Content-Type", a.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	etag := version
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body, etag = a.gzipped, version+"-gzip"
	}
	h.Set("Etag", `"`+etag+`"`)
	r.Header.Del("Range") // a part of a compressed file is of no use
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))))
}

// acceptsGzip reports whether a client takes gzip. A weight of 0 refuses. See RFC 9110, section
// 12.5.3.
func acceptsGzip(header string) bool {
	for one := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(one), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || weight == ""
		}
	}
	return false
}
