package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const folder = "../../deploy/grafana/dashboards"

// TestDashboards checks that the files are those that this program writes, that there are no
// others, and that Grafana's model has all that is in them.
func TestDashboards(t *testing.T) {
	model := cog.NewRuntime() // of the panels and queries that there are
	model.RegisterPanelcfgVariant(timeseries.VariantConfig())
	model.RegisterPanelcfgVariant(bargauge.VariantConfig())
	model.RegisterDataqueryVariant(prometheus.VariantConfig())
	var want []string
	for _, b := range boards {
		file := filepath.Join(folder, b.file+".json")
		want = append(want, file)
		made, err := b.json()
		if err != nil {
			t.Fatal(err)
		}
		stored, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(made, stored) {
			t.Errorf("%s is not what the table says (%v). Run: go generate ./deploy", file, err)
		}
		var d dashboard.Dashboard
		// Without a fault the library returns an empty list of them, which is not nil.
		if err := d.UnmarshalJSONStrict(stored); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", file, err)
		}
	}
	slices.Sort(want)
	if found, err := filepath.Glob(folder + "/*"); err != nil || !slices.Equal(found, want) {
		t.Errorf("%s has %q, want %q (%v)", folder, found, want, err)
	}
}
