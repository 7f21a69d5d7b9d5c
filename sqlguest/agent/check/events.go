package check

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// eventsQuery finds NTFS's warnings and errors of the last day that say that a shadow
// copy could not be kept, or that data was lost on its way to the disk. Older Windows
// call the provider Ntfs.
const eventsQuery = `*[System[Provider[@Name='Ntfs' or @Name='Microsoft-Windows-Ntfs'] and (EventID=57 or EventID=137 or EventID=140) and TimeCreated[timediff(@SystemTime) <= 86400000]]]`

// EventsID is the line of those events.
const EventsID = "Q28-events"

// maxEvents is how many of them are asked for, the newest first.
const maxEvents = 10

// eventsArgs are wevtutil's. As XML an event has no word in the system's language,
// which /f:text has.
func eventsArgs() []string {
	return []string{"qe", "System", "/q:" + eventsQuery, "/rd:true", "/c:" + strconv.Itoa(maxEvents), "/f:xml"}
}

// event is what counts of one.
type event struct {
	Provider struct {
		Name string `xml:"Name,attr"`
	} `xml:"System>Provider"`
	ID   int `xml:"System>EventID"`
	Time struct {
		At string `xml:"SystemTime,attr"`
	} `xml:"System>TimeCreated"`
	Data []string `xml:"EventData>Data"`
}

// readEvents reads what wevtutil writes: one Event after the other, with nothing
// around them, in the console's code page, of which only ASCII is looked at.
func readEvents(out []byte) ([]event, error) {
	var list []event
	d := xml.NewDecoder(bytes.NewReader(bytes.ToValidUTF8(out, []byte("?"))))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("read events: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "Event" {
			continue
		}
		var e event
		if err := d.DecodeElement(&e, &start); err != nil {
			return list, fmt.Errorf("read events: %w", err)
		}
		list = append(list, e)
	}
}

// events warns of what NTFS has noted. Nobody knows what an unreadable log holds, so
// that is no good sign either.
func events(out []byte, err error) Line {
	l := Line{ID: EventsID, Name: "events 57, 137, 140", Detail: "none in the last 24 hours",
		Remedy: "look at the System log: a shadow copy could not be kept, or data was lost on its way to the disk; databases in such snapshots may be unrecoverable"}
	if err != nil {
		l.Detail = fmt.Sprintf("ask the event log: %v", err)
		return l.When(false, Warning)
	}
	list, err := readEvents(out)
	list = slices.DeleteFunc(list, func(e event) bool { return e.ID != 57 && e.ID != 137 && e.ID != 140 })
	switch {
	case len(list) > 0:
		newest, more := list[0], ""
		if len(list) == maxEvents {
			more = " or more"
		}
		l.Detail = fmt.Sprintf("%d%s in the last 24 hours, the newest: %d of %s at %s", len(list), more, newest.ID, newest.Provider.Name, newest.Time.At)
		if said := strings.Join(strings.Fields(strings.Join(newest.Data, " ")), " "); said != "" {
			l.Detail += " (" + shorten(said) + ")"
		}
	case err != nil:
		l.Detail = err.Error()
	}
	return l.When(err == nil && len(list) == 0, Warning)
}

// shorten keeps a line a line: some events carry bytes in hexadecimal.
func shorten(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
