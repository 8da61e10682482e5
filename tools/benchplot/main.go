// Command benchplot draws the charts of package bench as SVG.
//
//	benchplot CHARTS.json FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-analyze/charts"
)

// A chart is one picture, with a line for each series.
type chart struct {
	File, Title, X string
	Labels         []string
	Series         []struct {
		Name   string
		Values []float64
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchplot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("give it the file with the charts, and a folder for the pictures")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var all []chart
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	if err := os.MkdirAll(args[1], 0o755); err != nil {
		return err
	}
	for _, c := range all {
		picture, err := c.draw()
		if err != nil {
			return fmt.Errorf("draw %s: %w", c.File, err)
		}
		if err := os.WriteFile(filepath.Join(args[1], c.File+".svg"), picture, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// draw returns the picture as SVG.
func (c chart) draw() ([]byte, error) {
	var values [][]float64
	var names []string
	for _, s := range c.Series {
		values, names = append(values, s.Values), append(names, s.Name)
	}
	o := charts.NewLineChartOptionWithData(values)
	o.Title.Text = c.Title
	o.XAxis.Title, o.XAxis.Labels = c.X, c.Labels
	o.YAxis[0].Min = charts.Ptr(0.0)
	o.Legend.SeriesNames = names
	o.Legend.Offset = charts.OffsetRight
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: 720, Height: 360})
	if err := p.LineChart(o); err != nil {
		return nil, err
	}
	return p.Bytes()
}
