package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rollout-sync/rollout/bench/tree"
)

// compareCodex asks the real Codex for the same lists: once without its database,
// which it then makes before it answers anything, and once with it.
func compareCodex(bin, home string, o tree.Options) error {
	defer func() {
		for _, pattern := range []string{"*.sqlite*", "config.toml", "installation_id", "version.json"} {
			files, _ := filepath.Glob(filepath.Join(home, pattern))
			for _, f := range files {
				_ = os.Remove(f)
			}
		}
	}()
	config := "model = \"m\"\nmodel_provider = \"mock\"\ncheck_for_update_on_startup = false\n[model_providers.mock]\nname = \"mock\"\nbase_url = \"http://127.0.0.1:9/v1\"\nwire_api = \"responses\"\n[analytics]\nenabled = false\n"
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600); err != nil {
		return err
	}
	for _, run := range []string{"without its database", "with it"} {
		if err := askCodex(bin, home, o, run); err != nil {
			return err
		}
	}
	return nil
}

func askCodex(bin, home string, o tree.Options, run string) error {
	cmd := exec.Command(bin, "app-server")
	temp, err := os.MkdirTemp("", "codex")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	cmd.Env = []string{"HOME=" + temp, "CODEX_HOME=" + home, "TMPDIR=" + temp, "PATH=" + os.Getenv("PATH"), "NO_PROXY=*"}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		fmt.Printf("%-22s %-24s %46.1f\n", "codex, "+run, "memory", float64(peak(fmt.Sprint(cmd.Process.Pid)))/1e6)
		in.Close()
		_ = cmd.Wait()
	}()
	r := bufio.NewReaderSize(out, 1<<20)
	id := 0
	call := func(method string, params any) (json.RawMessage, error) {
		id++
		line, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
		if err != nil {
			return nil, err
		}
		if _, err := in.Write(append(line, '\n')); err != nil {
			return nil, err
		}
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			var answer struct {
				ID     *int
				Method string
				Result json.RawMessage
				Error  json.RawMessage
			}
			if json.Unmarshal(line, &answer) == nil && answer.Method == "" && answer.ID != nil && *answer.ID == id {
				if answer.Error != nil {
					return nil, fmt.Errorf("%s: %s", method, answer.Error)
				}
				return answer.Result, nil
			}
		}
	}
	show := func(what string, took time.Duration, items int) {
		fmt.Printf("%-22s %-24s %10s %44d\n", "codex, "+run, what, short(took), items)
	}
	_, err = call("initialize", map[string]any{
		"clientInfo": map[string]string{"name": "bench", "title": "bench", "version": "1"}, "capabilities": map[string]bool{"experimentalApi": true},
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(in, `{"method":"initialized","params":{}}`+"\n"); err != nil {
		return err
	}
	type page struct {
		Data       []json.RawMessage
		NextCursor *string
	}
	list := func(extra map[string]any) (p page, err error) {
		params := map[string]any{"limit": 25, "sourceKinds": []string{"cli", "vscode", "exec", "appServer", "unknown"}, "modelProviders": []string{}}
		for k, v := range extra {
			params[k] = v
		}
		answer, err := call("thread/list", params)
		if err == nil {
			err = json.Unmarshal(answer, &p)
		}
		return p, err
	}
	p, err := list(nil)
	if err != nil {
		return err
	}
	show("start and first page", time.Since(start), len(p.Data))
	timed := func(what string, extra map[string]any) error {
		start := time.Now()
		p, err := list(extra)
		if err == nil {
			show(what, time.Since(start), len(p.Data))
		}
		return err
	}
	if err := timed("first page again", nil); err != nil {
		return err
	}
	for range 8 {
		if p, err = list(map[string]any{"cursor": *p.NextCursor}); err != nil {
			return err
		}
	}
	if err := timed("tenth page", map[string]any{"cursor": *p.NextCursor}); err != nil {
		return err
	}
	if err := timed("by update", map[string]any{"sortKey": "updated_at"}); err != nil {
		return err
	}
	if err := timed("cwd hit", map[string]any{"cwd": tree.Cwd(7)}); err != nil {
		return err
	}
	if err := timed("cwd miss", map[string]any{"cwd": "/nowhere"}); err != nil {
		return err
	}
	mid := o.At(o.Sessions / 2).ID
	begin := time.Now()
	if _, err := call("thread/read", map[string]any{"threadId": mid.String()}); err != nil {
		return err
	}
	show("id hit (thread/read)", time.Since(begin), 1)
	mid[15]++
	begin = time.Now()
	if _, err := call("thread/read", map[string]any{"threadId": mid.String()}); err == nil {
		return fmt.Errorf("it knows a session that is not there")
	}
	show("id miss (thread/read)", time.Since(begin), 0)
	return nil
}
