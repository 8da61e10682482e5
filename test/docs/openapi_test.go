package docs

import (
	"go/ast"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/example/pillion/web/webtest"
)

// An example of a sentence in an OpenAPI document is a sentence of the code, to the letter.
func TestSentencesOfOpenAPI(t *testing.T) {
	t.Parallel()
	sentences := map[any]bool{}
	for _, files := range packages(t) {
		texts := constants(files)
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if s, ok := text(e, texts); ok {
						sentences[s] = true
					}
				}
				return true
			})
		}
	}
	seen := 0
	for _, service := range []string{"authsvc", "usersvc", "ridersvc"} {
		doc, err := webtest.Load(filepath.Join(root, service, "openapi.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for name, operation := range webtest.Operations(doc) {
			for status, response := range operation.Responses.Map() {
				for _, sentence := range examples(response.Value.Content["text/plain"]) {
					seen++
					if !sentences[sentence] {
						t.Errorf("%s of %s, %s: no part of the code says %q", name, service, status, sentence)
					}
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("found %d sentences, want at least 50", seen)
	}
}

// examples returns the examples of a media type.
func examples(media *openapi3.MediaType) (all []any) {
	if media == nil {
		return nil
	}
	if media.Example != nil {
		all = append(all, media.Example)
	}
	for _, e := range media.Examples {
		all = append(all, e.Value.Value)
	}
	return all
}
