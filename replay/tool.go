package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
)

// firstValue returns the first value that is there.
func firstValue(values ...json.RawMessage) json.RawMessage {
	for _, v := range values {
		if len(v) > 0 && string(v) != "null" {
			return v
		}
	}
	return nil
}

// valueText returns what a value says: a string, or parts like those of a message.
// Of another value it is the JSON.
func valueText(v json.RawMessage) string {
	text, _ := valueParts(v)
	return text
}

func valueParts(v json.RawMessage) (string, []Image) {
	switch {
	case len(v) == 0 || string(v) == "null":
		return "", nil
	case v[0] == '"':
		text, _ := codec.Unquote(v)
		return text, nil
	case v[0] == '[':
		var parts []codec.Part
		if json.Unmarshal(v, &parts) == nil {
			return partsText(parts)
		}
	}
	return string(v), nil
}

// partsText returns the text of parts, one below the other, without those that
// Codex added, and the images.
func partsText(parts []codec.Part) (string, []Image) {
	var texts []string
	var images []Image
	for _, p := range parts {
		switch {
		case strings.HasSuffix(p.Type, "image"):
			images = append(images, Image{URL: p.ImageURL, Path: p.Path})
		case strings.HasSuffix(p.Type, "audio"):
			texts = append(texts, "[audio]")
		case strings.TrimSpace(p.Text) == "" || codec.Injected(p.Text):
		default:
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n"), images
}

// toolInput returns what a tool was called with, for people.
func toolInput(arguments string) string {
	if !strings.HasPrefix(strings.TrimSpace(arguments), "{") {
		return arguments
	}
	var a struct {
		Cmd, Command json.RawMessage
		Explanation  string
		Plan         []codec.PlanStep
	}
	if json.Unmarshal([]byte(arguments), &a) != nil {
		return arguments
	}
	for _, v := range []json.RawMessage{a.Cmd, a.Command} {
		var words []string
		var line string
		if json.Unmarshal(v, &line) == nil && line != "" {
			return line
		}
		if json.Unmarshal(v, &words) == nil && len(words) > 0 {
			return commandLine(words)
		}
	}
	if len(a.Plan) == 0 {
		return arguments
	}
	var b strings.Builder
	if a.Explanation != "" {
		b.WriteString(a.Explanation + "\n")
	}
	for _, s := range a.Plan {
		mark := " "
		switch s.Status {
		case "completed":
			mark = "x"
		case "in_progress":
			mark = ">"
		}
		b.WriteString("[" + mark + "] " + s.Step + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// commandLine writes a command as one would type it, nearly.
func commandLine(command []string) string {
	if len(command) == 3 && strings.HasSuffix(command[0], "sh") && (command[1] == "-lc" || command[1] == "-c") {
		return command[2] // of bash, zsh or sh
	}
	words := slices.Clone(command)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`&|;<>()*?#~") {
			words[i] = strconv.Quote(w)
		}
	}
	return strings.Join(words, " ")
}

// searchText returns what a web search did: look for something, or open a page.
func searchText(action json.RawMessage) string {
	var a struct{ Query, URL, Pattern string }
	_ = json.Unmarshal(action, &a) // what fits
	return strings.TrimSpace(strings.Join([]string{a.Query, a.URL, a.Pattern}, " "))
}

// toolResult returns what the output of a tool says: a string or parts. In a string
// Codex before 0.98 has an object, and Codex since then has lines about the process
// in front of the output itself.
func toolResult(v json.RawMessage) Result {
	var r Result
	r.Output, r.Images = valueParts(v)
	if !bytes.HasPrefix(v, []byte(`"`)) {
		return r
	}
	for range 2 { // around the output of a command that is a patch there are two
		if !r.unwrap() {
			break
		}
	}
	return r
}

// unwrap takes off what Codex puts around the output of a command.
func (r *Result) unwrap() bool {
	if strings.HasPrefix(r.Output, "{") {
		var shell struct {
			Output   *string
			Metadata struct {
				ExitCode *int64  `json:"exit_code"`
				Seconds  float64 `json:"duration_seconds"`
			}
		}
		if json.Unmarshal([]byte(r.Output), &shell) != nil || shell.Output == nil {
			return false
		}
		r.Output, r.ExitCode = *shell.Output, shell.Metadata.ExitCode
		r.DurationMS = int64(shell.Metadata.Seconds * 1000)
		return true
	}
	const maxLines = 1000 // those of a command
	rest, running, inCommand := r.Output, "", false
	exitCode, duration := r.ExitCode, r.DurationMS
	for n := range maxLines {
		line, after, ok := strings.Cut(rest, "\n")
		key, value := cutHeader(line)
		switch {
		case line == "Output:" && n > 0 && !inCommand:
			r.Output, r.ExitCode, r.DurationMS = running+after, exitCode, duration
			return true
		case !ok || key == "" && !inCommand:
			return false
		case n == 0 && key == "Command":
			inCommand = true
		case key == "Chunk ID":
			inCommand = false
		case key == "Wall time":
			seconds, _ := strconv.ParseFloat(strings.TrimSuffix(value, " seconds"), 64)
			duration = int64(seconds * 1000)
		case strings.HasPrefix(key, "Process exited") || key == "Exit code":
			if code, err := strconv.ParseInt(value, 10, 64); err == nil {
				exitCode = &code
			}
		case strings.HasPrefix(key, "Process running"):
			running = line + "\n" // nothing else tells
		}
		rest = after
	}
	return false
}

// cutHeader cuts a line that Codex 0.98 to 0.169 puts in front of the output of a
// command. Another line has no key.
func cutHeader(line string) (key, value string) {
	for _, key := range []string{
		"Chunk ID: ", "Wall time: ", "Process exited with code ", "Process running with session ID ",
		"Original token count: ", "Exit code: ", "Command: ",
	} {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSuffix(key, ": "), value
		}
	}
	return "", ""
}

// mcpText returns the text of an MCP tool's result: {"Ok":{"content":[…]}} or
// {"Err":"…"}.
func mcpText(v json.RawMessage) string {
	var r struct {
		Ok  struct{ Content json.RawMessage }
		Err json.RawMessage
	}
	_ = json.Unmarshal(v, &r) // what fits
	return valueText(firstValue(r.Ok.Content, r.Err))
}

// joinOutput returns what a command wrote to its two outputs, which may end in the middle
// of a line.
func joinOutput(stdout, stderr string) string {
	if stdout != "" && stderr != "" && !strings.HasSuffix(stdout, "\n") {
		stdout += "\n"
	}
	return stdout + stderr
}

// milli returns a measured time in milliseconds.
func milli(d *codec.Duration) int64 {
	if d == nil {
		return 0
	}
	return d.Secs*1000 + d.Nanos/int64(time.Millisecond)
}

// fileChanges returns the changes of an event, by path. Codex until 2026 has the
// kind of a change as a key, later as its type.
func fileChanges(changes map[string]json.RawMessage) []File {
	var files []File
	for path, v := range changes {
		type change struct {
			Type    string
			Content string
			Diff    string `json:"unified_diff"`
			MoveTo  string `json:"move_path"`
		}
		var c change
		_ = json.Unmarshal(v, &c) // what fits
		if c.Type == "" {
			var byKind map[string]change
			_ = json.Unmarshal(v, &byKind)
			for kind, of := range byKind { // one
				c, c.Type = of, kind
			}
		}
		files = append(files, File{Path: path, Change: c.Type, MoveTo: c.MoveTo, Diff: cmp.Or(c.Diff, c.Content)})
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}
