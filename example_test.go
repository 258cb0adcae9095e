package rollout_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/replay"
)

func Example() {
	dir, err := os.MkdirTemp("", "codex-home-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := recordListReplay(context.Background(), dir); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 session: Hello
	// 1 session_meta
	// 2 event_msg
}

// recordListReplay is all that an agent needs.
func recordListReplay(ctx context.Context, dir string) error {
	home, err := rollout.Open(dir)
	if err != nil {
		return err
	}
	defer home.Close()
	session, err := home.New(recorder.Meta{Cwd: "/home/me/project", Originator: "my_agent", CLIVersion: "1.0.0"})
	if err != nil {
		return err
	}
	defer session.Close(ctx)
	if err := session.Record(ctx, codec.Item{Type: codec.TypeEventMsg, Payload: []byte(`{"type":"user_message","message":"Hello"}`)}); err != nil {
		return err
	}
	if err := session.Flush(ctx); err != nil { // it is on the disk from here on
		return err
	}

	page, err := home.List(ctx, listing.Query{Cwd: "/home/me/project"})
	if err != nil {
		return err
	}
	fmt.Printf("%d session: %s\n", len(page.Items), *page.Items[0].FirstUserMessage)
	for item, err := range home.Replay(ctx, session.ID()) {
		if err != nil {
			return err
		}
		fmt.Println(item.Line, item.Type)
	}
	return nil
}

// An agent that is started again goes on where it stopped, or tries another way
// from an earlier turn.
func Example_resume() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	home, err := rollout.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer home.Close()
	say := func(session *recorder.Recorder, err error, text string) {
		if err == nil {
			err = session.Record(ctx, codec.Item{Type: codec.TypeEventMsg, Payload: fmt.Appendf(nil, `{"type":"user_message","message":%q}`, text)})
		}
		if err == nil {
			err = session.Close(ctx)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	meta := recorder.Meta{Cwd: "/home/me/project", Originator: "my_agent", CLIVersion: "1.0.0"}
	session, err := home.New(meta)
	say(session, err, "Write a parser")

	latest, err := home.Latest(ctx, "/home/me/project")
	if err != nil {
		log.Fatal(err)
	}
	session, err = home.Resume(ctx, latest.ID)
	say(session, err, "Now test it")
	fork, err := home.Fork(ctx, latest.ID, replay.AfterTurn(1), meta)
	say(fork, err, "Now make it fast")

	for _, id := range []uuid.UUID{session.ID(), fork.ID()} {
		for item, err := range home.Replay(ctx, id) {
			if err != nil {
				log.Fatal(err)
			}
			if item.Type == codec.TypeEventMsg {
				fmt.Println(string(item.Payload))
			}
		}
		if err := home.Delete(ctx, id); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// {"type":"user_message","message":"Write a parser"}
	// {"type":"user_message","message":"Now test it"}
	// {"type":"user_message","message":"Write a parser"}
	// {"type":"user_message","message":"Now make it fast"}
}
