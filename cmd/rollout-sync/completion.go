package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/listing"
)

// addCompletion gives root the command "completion", and its commands what completes
// their arguments.
func (a *app) addCompletion(root *cobra.Command) {
	root.SetOut(a.out) // the command keeps it
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "show", "restore":
			cmd.ValidArgsFunction = a.completeID
		case "completion":
			cmd.Short = "Print a script with which a shell completes commands, flags and ids"
			cmd.Long = `Completion prints a script with which your shell completes commands, flags and, for
show and restore, the ids of sessions in the home, the newest first, with what they
began with. The mirror is not asked.

Try it in the shell that you are in, or install it for the next ones:

  bash, with the package bash-completion
      source <(rollout-sync completion bash)
      rollout-sync completion bash > ~/.local/share/bash-completion/completions/rollout-sync
  zsh, with "autoload -U compinit; compinit" in ~/.zshrc
      source <(rollout-sync completion zsh)
      rollout-sync completion zsh > "${fpath[1]}/_rollout-sync"
  fish
      rollout-sync completion fish | source
      rollout-sync completion fish > ~/.config/fish/completions/rollout-sync.fish
  PowerShell
      rollout-sync completion powershell | Out-String | Invoke-Expression
      rollout-sync completion powershell >> $PROFILE    # once`
			cmd.Example = ""
		default:
			if cmd.ValidArgsFunction == nil {
				cmd.ValidArgsFunction = cobra.NoFileCompletions
			}
		}
	}
	_ = root.MarkPersistentFlagDirname("home") // there is one
}

// completeID completes the id of a session in the home. It does without what takes
// longer than somebody waits who has pressed a key.
func (a *app) completeID(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const (
		patience = 2 * time.Second
		most     = 50
	)
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	var ids []cobra.Completion
	if len(args) > 0 && cmd.Name() == "show" || flagsFromEnv(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	home, err := rollout.Open(a.home)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer home.Close()
	page, err := home.List(ctx, listing.Query{ID: begun, Limit: most, Preview: -1})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, it := range page.Items {
		// A shell keeps a completion only if it begins as what was typed.
		if id := it.ID.String(); strings.HasPrefix(id, begun) {
			ids = append(ids, cobra.CompletionWithDesc(id, describe(it)))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// describe says in a few words what a session is.
func describe(it listing.Item) string {
	const most = 60 // runes
	text := ""
	switch {
	case it.Name != nil && *it.Name != "":
		text = *it.Name
	case it.FirstUserMessage != nil:
		text = *it.FirstUserMessage
	}
	runes := []rune(clean(text))
	if len(runes) > most {
		runes = append(runes[:most-1], '…')
	}
	return string(runes)
}
