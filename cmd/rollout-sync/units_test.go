package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The blocks of docs/operations.md are what they say they are, and the program has the
// commands and flags in them.
func TestUnits(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	parsers := map[string]func(block string) (commands [][]string, err error){
		"systemd": parseSystemd, "xml": parsePlist, "cron": parseCron, "yaml": parseCronJob,
		"dockerfile": parseDockerfile, "bat": parseTask, "sh": parseShell,
	}
	commands := map[string]int{} // by kind of block
	for _, block := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?\n)```\n").FindAllStringSubmatch(string(doc), -1) {
		kind := block[1]
		if kind == "json" || kind == "prometheus" {
			continue // TestPolicies and TestMetricsFile check them
		}
		parse, ok := parsers[kind]
		if !ok {
			t.Errorf("a block of %s, which nothing checks", kind)
			continue
		}
		found, err := parse(block[2])
		if err != nil {
			t.Errorf("%s: %v in\n%s", kind, err, block[2])
		}
		for _, args := range found {
			commands[kind]++
			if err := checkCommand(args); err != nil {
				t.Errorf("%s: %q: %v", kind, args, err)
			}
		}
	}
	for kind := range parsers {
		if commands[kind] == 0 {
			t.Errorf("no command in a block of %s", kind)
		}
	}
}

// checkCommand holds a command line against the program, without running it.
func checkCommand(args []string) error {
	name := args[0][strings.LastIndexAny(args[0], `/\`)+1:]
	if name != program && name != program+".exe" {
		return fmt.Errorf("it does not run %s", program)
	}
	root := (&app{}).command()
	cmd, rest, err := root.Find(args[1:])
	if err != nil || cmd == root {
		return fmt.Errorf("no such command: %w", err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// A check that cannot fail checks nothing.
func TestUnitsAreChecked(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"/bin/other push", "rollout-sync", "rollout-sync pusch", "rollout-sync push --hoem x", "rollout-sync push x", "rollout-sync push --idle soon",
	} {
		if checkCommand(strings.Fields(line)) == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	for block, parse := range map[string]func(string) ([][]string, error){
		"[Service]\nExecStrat=x\n":                               parseSystemd,
		"Type=oneshot\n":                                         parseSystemd,
		"[Timer]\nOnCalendar=sometimes\n":                        parseSystemd,
		"[Service]\nNice=ten\n":                                  parseSystemd,
		"<plist><dict><key>Label</key></dict>":                   parsePlist,
		"<plist><dict><key>Label</key><string/></dict></plist>":  parsePlist,
		"*/15 * * *  rollout-sync push\n":                        parseCron,
		"*/15 * * * 8  rollout-sync push\n":                      parseCron,
		"apiVersion: batch/v1\nkind: CronJob\nspec: {shedule: }": parseCronJob,

		"kind: Job\n": parseCronJob, // apart, since formatters do not agree how it is aligned
	} {
		if _, err := parse(block); err == nil {
			t.Errorf("%q is accepted", block)
		}
	}
}

// systemdKeys are the keys that are known, and what their values look like.
var systemdKeys = map[string]map[string]string{
	"Unit": {"Description": `.+`},
	"Service": {
		"Type": `oneshot`, "EnvironmentFile": `-?[%/].+`, "ExecStart": `[%/].+`, "SuccessExitStatus": `\d+( \d+)*`,
		"TimeoutStartSec": `\d+(s|min|h)`, "Nice": `-?\d+`, "IOSchedulingClass": `idle|best-effort|realtime`, "UMask": `[0-7]{4}`,
		"NoNewPrivileges": `true`, "LockPersonality": `true`, "MemoryDenyWriteExecute": `true`, "RestrictNamespaces": `true`,
		"RestrictRealtime": `true`, "RestrictSUIDSGID": `true`, "RestrictAddressFamilies": `(AF_[A-Z0-9]+ ?)+`,
		"SystemCallArchitectures": `native`, "SystemCallFilter": `@[a-z-]+`,
	},
	"Timer":   {"OnCalendar": `\*:\d+(/\d+)?`, "RandomizedDelaySec": `\d+(s|min|h)`, "Persistent": `true|false`},
	"Install": {"WantedBy": `[a-z-]+\.target`},
}

func parseSystemd(block string) (commands [][]string, err error) {
	section := ""
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		want, ok := systemdKeys[section][key]
		if !ok || !regexp.MustCompile("^(?:"+want+")$").MatchString(value) {
			return nil, fmt.Errorf("[%s] %s", section, line)
		}
		if key == "ExecStart" {
			commands = append(commands, strings.Fields(value))
		}
	}
	return commands, nil
}

// parsePlist reads what launchd needs of a property list.
func parsePlist(block string) ([][]string, error) {
	d := xml.NewDecoder(strings.NewReader(block))
	var (
		key     string
		args    []string
		keys    = map[string]bool{}
		integer = regexp.MustCompile(`^\d+$`)
	)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		start, ok := token.(xml.StartElement)
		if !ok || !slices.Contains([]string{"key", "string", "integer"}, start.Name.Local) {
			continue
		}
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			return nil, err
		}
		switch {
		case text == "":
			return nil, fmt.Errorf("%s of %s is empty", start.Name.Local, key)
		case start.Name.Local == "key":
			key = text
			keys[key] = true
		case start.Name.Local == "integer" && !integer.MatchString(text):
			return nil, fmt.Errorf("%s: %q", key, text)
		case key == "ProgramArguments":
			args = append(args, text)
		}
	}
	for _, want := range []string{"Label", "ProgramArguments", "StartCalendarInterval"} {
		if !keys[want] {
			return nil, fmt.Errorf("no %s among %q", want, slices.Sorted(maps.Keys(keys)))
		}
	}
	return [][]string{args}, nil
}

// schedule is five fields of cron.
var schedule = func() *regexp.Regexp {
	field := func(value string) string { return fmt.Sprintf(`(\*(/\d+)?|(%[1]s)(-(%[1]s))?(,(%[1]s))*)`, value) }
	return regexp.MustCompile("^" + strings.Join([]string{
		field("[0-5]?[0-9]"), field("[01]?[0-9]|2[0-3]"), field("[1-9]|[12][0-9]|3[01]"), field("[1-9]|1[0-2]"), field("[0-7]"),
	}, ` `) + "$")
}()

func parseCron(block string) (commands [][]string, err error) {
	for line := range strings.Lines(block) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !schedule.MatchString(strings.Join(fields[:5], " ")) {
			return nil, fmt.Errorf("%q", line)
		}
		commands = append(commands, words(strings.Join(fields[5:], " ")))
	}
	return commands, nil
}

// words are the words of a simple command in a shell, without redirections and comments.
func words(line string) []string {
	line, _, _ = strings.Cut(line, " #")
	return slices.DeleteFunc(strings.Fields(line), func(word string) bool { return strings.HasPrefix(word, ">") })
}

func parseShell(block string) (commands [][]string, err error) {
	for line := range strings.Lines(block) {
		if args := words(line); len(args) > 0 && args[0] == program {
			commands = append(commands, args)
		}
	}
	return commands, nil
}

// cronJob is as much of Kubernetes' batch/v1 CronJob as is used: any other key is an
// error.
type cronJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Schedule                   string `yaml:"schedule"`
		ConcurrencyPolicy          string `yaml:"concurrencyPolicy"`
		StartingDeadlineSeconds    int    `yaml:"startingDeadlineSeconds"`
		SuccessfulJobsHistoryLimit int    `yaml:"successfulJobsHistoryLimit"`
		FailedJobsHistoryLimit     int    `yaml:"failedJobsHistoryLimit"`
		JobTemplate                struct {
			Spec struct {
				BackoffLimit          int `yaml:"backoffLimit"`
				ActiveDeadlineSeconds int `yaml:"activeDeadlineSeconds"`
				Template              struct {
					Spec pod `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	} `yaml:"spec"`
}

type pod struct {
	RestartPolicy                string `yaml:"restartPolicy"`
	AutomountServiceAccountToken bool   `yaml:"automountServiceAccountToken"`
	SecurityContext              struct {
		RunAsNonRoot   bool `yaml:"runAsNonRoot"`
		RunAsUser      int  `yaml:"runAsUser"`
		FSGroup        int  `yaml:"fsGroup"`
		SeccompProfile struct {
			Type string `yaml:"type"`
		} `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
	Containers []struct {
		Name  string   `yaml:"name"`
		Image string   `yaml:"image"`
		Args  []string `yaml:"args"`
		Env   []struct {
			Name  string `yaml:"name"`
			Value string `yaml:"value"`
		} `yaml:"env"`
		EnvFrom []struct {
			SecretRef struct {
				Name string `yaml:"name"`
			} `yaml:"secretRef"`
		} `yaml:"envFrom"`
		Resources struct {
			Requests map[string]string `yaml:"requests"`
			Limits   map[string]string `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	} `yaml:"containers"`
	Volumes []struct {
		Name                  string `yaml:"name"`
		PersistentVolumeClaim struct {
			ClaimName string `yaml:"claimName"`
		} `yaml:"persistentVolumeClaim"`
	} `yaml:"volumes"`
}

func parseCronJob(block string) (commands [][]string, err error) {
	d := yaml.NewDecoder(strings.NewReader(block))
	d.KnownFields(true)
	var j cronJob
	if err := d.Decode(&j); err != nil {
		return nil, err
	}
	p := j.Spec.JobTemplate.Spec.Template.Spec
	switch {
	case j.APIVersion != "batch/v1" || j.Kind != "CronJob" || j.Metadata.Name == "":
		return nil, errors.New("not a batch/v1 CronJob with a name")
	case !schedule.MatchString(j.Spec.Schedule) || j.Spec.ConcurrencyPolicy != "Forbid":
		return nil, fmt.Errorf("schedule %q, concurrencyPolicy %q", j.Spec.Schedule, j.Spec.ConcurrencyPolicy)
	case p.RestartPolicy != "Never" || len(p.Containers) == 0:
		return nil, errors.New("a job's pod has containers, and a restartPolicy of Never or OnFailure")
	}
	volumes := map[string]bool{}
	for _, v := range p.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range p.Containers {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				return nil, fmt.Errorf("no volume %q", m.Name)
			}
		}
		for _, e := range c.Env {
			if err := checkVariable(e.Name); err != nil {
				return nil, err
			}
		}
		commands = append(commands, append([]string{program}, c.Args...))
	}
	return commands, nil
}

// checkVariable returns an error for a ROLLOUT_SYNC_ variable that stands for no flag
// of a push.
func checkVariable(name string) error {
	flag, ours := strings.CutPrefix(name, "ROLLOUT_SYNC_")
	cmd, _, err := (&app{}).command().Find([]string{"push"})
	if err != nil || !ours {
		return err
	}
	flag = strings.ReplaceAll(strings.ToLower(flag), "_", "-")
	if cmd.Flags().Lookup(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil {
		return fmt.Errorf("%s stands for no flag", name)
	}
	return nil
}

var jsonArray = regexp.MustCompile(`^(ENTRYPOINT|CMD) (\[.*\])$`)

func parseDockerfile(block string) ([][]string, error) {
	var args []string
	for line := range strings.Lines(block) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"FROM", "RUN", "COPY", "ENV", "ENTRYPOINT", "CMD"}, word) {
			return nil, fmt.Errorf("%q", line)
		}
		if m := jsonArray.FindStringSubmatch(line); m != nil {
			var more []string
			if err := yaml.Unmarshal([]byte(m[2]), &more); err != nil {
				return nil, err
			}
			args = append(args, more...)
		}
	}
	return [][]string{args}, nil
}

// task is a command of Windows' schtasks, and task[1] what it is to run.
var task = regexp.MustCompile(`^schtasks /Create /TN [a-z-]+ /SC MINUTE /MO \d+ /TR "\\"(%USERPROFILE%\\[^"]+)\\" ([a-z -]+)"\n$`)

func parseTask(block string) ([][]string, error) {
	m := task.FindStringSubmatch(block)
	if m == nil {
		return nil, fmt.Errorf("%q", block)
	}
	return [][]string{append([]string{m[1]}, strings.Fields(m[2])...)}, nil
}
