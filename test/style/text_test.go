package style

import (
	"fmt"
	"regexp"
	"strings"
)

// The limits of Markdown.
const (
	maxDocColumns  = 100
	maxReadmeLines = 120
)

// phrases are sentences that were rewritten because they did not read like English, in lower case.
// Each is long enough to be recognised, and is found across the end of a line too.
var phrases = []string{
	"does not know the key that this process proves",
	"is refused for good is no event",
	"waits for what it judges tokens by",
	"look whether it was done",
	"one of the commonest",
	"is not known here what rides cost",
	"may be given a few times only",
	"it is found out",
	"needs a stickiness",
	"are for anybody where",
	"can write whatever it may write",
	"nobody answers who knows",
	"or somebody has pretended so",
	"shows what happens and no tokens",
	"replicas may have what the leader lacks",
	"what is told",
	"that is gone",
	"is let in",
}

var (
	// lineBreak matches the end of a line together with what starts the next line of a comment.
	lineBreak = regexp.MustCompile(`\s*\n\s*(?://|#|>|\*)?\s*`)
	// linkTarget matches the address of a Markdown link.
	linkTarget = regexp.MustCompile(`\]\([^)]*\)|^\[[^]]+\]: \S+|<https?://[^>]*>`)
	// htmlComment matches a comment that Markdown does not show.
	htmlComment = regexp.MustCompile(`<!--.*?-->`)
)

// checkPhrases looks for the rewritten sentences in the text of a file. It skips this folder, which
// quotes them.
func checkPhrases(file, text string) []violation {
	if strings.HasPrefix(file, "test/style/") {
		return nil
	}
	var found []violation
	flat, starts := flatten(strings.ToLower(text))
	for _, phrase := range phrases {
		for from := 0; ; {
			at := strings.Index(flat[from:], phrase)
			if at < 0 {
				break
			}
			from += at + len(phrase)
			found = append(found, violation{file, lineAt(starts, from-len(phrase)), "phrase", phrase})
		}
	}
	return found
}

// flatten joins the lines of a text by single spaces, without the marks that start the lines of a
// comment. It also returns where each line starts in the result.
func flatten(text string) (flat string, starts []int) {
	var joined strings.Builder
	starts = []int{0}
	last := 0
	for _, gap := range lineBreak.FindAllStringIndex(text, -1) {
		joined.WriteString(text[last:gap[0]] + " ")
		for range strings.Count(text[gap[0]:gap[1]], "\n") {
			starts = append(starts, joined.Len())
		}
		last = gap[1]
	}
	joined.WriteString(text[last:])
	return joined.String(), starts
}

// lineAt is the number of the line, from 1, that has an offset.
func lineAt(starts []int, offset int) int {
	line := 0
	for line < len(starts) && starts[line] <= offset {
		line++
	}
	return line
}

// checkMarkdown measures the lines of a page, except tables, code and the targets of links.
func checkMarkdown(file, text string) []violation {
	var found []violation
	inCode := false
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "```") || strings.HasPrefix(trimmed, "~~~") {
			inCode = !inCode
			continue
		}
		// A test reads docs/mutations.md line by line.
		if inCode || strings.HasPrefix(trimmed, "|") || strings.Contains(line, "`, caught by `") {
			continue
		}
		shown := htmlComment.ReplaceAllString(line, "")
		shown = urlText.ReplaceAllString(linkTarget.ReplaceAllString(shown, ""), "")
		if wide := columns(strings.TrimRight(shown, " ")); wide > maxDocColumns {
			found = append(found, violation{file, i + 1, "docs width",
				fmt.Sprintf("%d columns, the limit is %d", wide, maxDocColumns)})
		}
	}
	if count := len(lines) - 1; file == "README.md" && count > maxReadmeLines {
		found = append(found, violation{file, 0, "README size",
			fmt.Sprintf("%d lines, the limit is %d", count, maxReadmeLines)})
	}
	return found
}
