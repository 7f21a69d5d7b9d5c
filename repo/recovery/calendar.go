package recovery

import "time"

// calendar numbers days, weeks, months and years as a clock on the wall of one
// zone shows them. Days of 23 or 25 hours are days like others: nothing here adds
// hours.
type calendar struct{ zone *time.Location }

func newCalendar(zone *time.Location) calendar {
	if zone == nil {
		zone = time.UTC
	}
	return calendar{zone}
}

// periods are the numbers of the day, week, month and year that a moment is in.
// Of each kind the next one has the next number.
type periods struct{ day, week, month, year int }

func (c calendar) of(t time.Time) periods {
	year, month, date := t.In(c.zone).Date()
	day := int(time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)) // in UTC all days are equal
	return periods{day: day, week: floorDiv(day+daysToMonday, 7), month: 12*year + int(month), year: year}
}

// daysToMonday: day 0, 1 January 1970, was a Thursday, and weeks begin on Monday.
const daysToMonday = 3

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// warmDays is for how many days a point is called warm.
const warmDays = 90

// IsWarm tells whether a moment is at most 90 calendar days ago, in a zone (nil: UTC).
// Older points are called cold: stores that charge for it move them to where they must
// be fetched from first.
func IsWarm(at, now time.Time, zone *time.Location) bool {
	c := newCalendar(zone)
	return c.of(now).day-c.of(at).day <= warmDays
}
