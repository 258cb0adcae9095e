package codec

// Turns finds where the turns of a session begin, whose items are added to it one by
// one. A turn begins with what a person says; Codex marks it from 0.118 on, with
// task_started. Before, it begins with what is sent to the model before it is shown
// as a user_message: the turn_context and the messages of a user. In a paginated
// session a user_message is a completed item; in bare lines, and of plain events, it
// is the message itself. The zero value is ready.
type Turns struct {
	// Starts has the offsets of the turns that were not rolled back.
	Starts []int64

	opening bool  // the last items may belong to the turn that comes
	at      int64 // where they begin
	tasks   bool  // there are task_started
	open    bool  // of which the last has no user_message yet
}

// Add adds an item and its offset.
func (t *Turns) Add(it Item, off int64) {
	var p struct {
		Type string `json:"type"`
		Role string `json:"role"`
		Item struct {
			Type string `json:"type"`
		} `json:"item"`
		Turns int64 `json:"num_turns"`
	}
	if it.Type == TypeEventMsg || it.Type == TypeResponseItem {
		_ = unmarshal(it.Payload, &p) // what does not fit is of no type
	}
	switch {
	case it.Type == TypeEventMsg && (p.Type == "task_started" || p.Type == "turn_started"):
		t.tasks, t.open, t.opening, t.at = true, true, true, off
	case it.Type == TypeEventMsg && (p.Type == "user_message" || p.Type == "item_completed" && p.Item.Type == "UserMessage"):
		// Within a task it may also be a word in between.
		if !t.tasks || t.open {
			if !t.opening {
				t.at = off
			}
			t.Starts = append(t.Starts, t.at)
		}
		t.open, t.opening = false, false
	case it.Type == TypeUserMessage, it.Timestamp == "" && p.Role == "user" && userText(it) != "":
		if !t.opening {
			t.at = off
		}
		t.Starts = append(t.Starts, t.at)
		t.opening = false
	case it.Type == TypeEventMsg && p.Type == "thread_rolled_back":
		t.Starts = t.Starts[:max(0, int64(len(t.Starts))-max(0, p.Turns))]
		t.opening = false
	case t.tasks && t.open:
		// Everything behind a task_started is of its turn.
	case it.Type == TypeTurnContext, it.Type == TypeResponseItem && p.Type == "message" && p.Role != "assistant":
		if !t.opening {
			t.opening, t.at = true, off
		}
	default:
		t.opening = false
	}
}
