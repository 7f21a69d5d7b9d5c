// Package zones finds the rules of a server's time zone by the name that SQL Server
// calls it: Windows' own one, or one of the tz database.
//
// Only zones that change their clocks have rules worth knowing. Of all others the
// offset that is kept with every backup tells all there is.
package zones

import (
	"time"
	_ "time/tzdata" // the rules, on machines that have none
)

// windows are the zones of Windows whose clocks are changed, by the tz database's
// names for them (Unicode CLDR, windowsZones, territory 001).
var windows = map[string]string{
	"AUS Eastern Standard Time":      "Australia/Sydney",
	"Alaskan Standard Time":          "America/Anchorage",
	"Aleutian Standard Time":         "America/Adak",
	"Atlantic Standard Time":         "America/Halifax",
	"Azores Standard Time":           "Atlantic/Azores",
	"Cen. Australia Standard Time":   "Australia/Adelaide",
	"Central Europe Standard Time":   "Europe/Budapest",
	"Central European Standard Time": "Europe/Warsaw",
	"Central Standard Time":          "America/Chicago",
	"Chatham Islands Standard Time":  "Pacific/Chatham",
	"Cuba Standard Time":             "America/Havana",
	"E. Europe Standard Time":        "Europe/Chisinau",
	"Easter Island Standard Time":    "Pacific/Easter",
	"Eastern Standard Time":          "America/New_York",
	"Egypt Standard Time":            "Africa/Cairo",
	"FLE Standard Time":              "Europe/Kiev",
	"GMT Standard Time":              "Europe/London",
	"GTB Standard Time":              "Europe/Bucharest",
	"Greenland Standard Time":        "America/Godthab",
	"Haiti Standard Time":            "America/Port-au-Prince",
	"Israel Standard Time":           "Asia/Jerusalem",
	"Lord Howe Standard Time":        "Australia/Lord_Howe",
	"Middle East Standard Time":      "Asia/Beirut",
	"Morocco Standard Time":          "Africa/Casablanca",
	"Mountain Standard Time":         "America/Denver",
	"New Zealand Standard Time":      "Pacific/Auckland",
	"Newfoundland Standard Time":     "America/St_Johns",
	"Norfolk Standard Time":          "Pacific/Norfolk",
	"Pacific SA Standard Time":       "America/Santiago",
	"Pacific Standard Time":          "America/Los_Angeles",
	"Pacific Standard Time (Mexico)": "America/Tijuana",
	"Paraguay Standard Time":         "America/Asuncion",
	"Romance Standard Time":          "Europe/Paris",
	"Saint Pierre Standard Time":     "America/Miquelon",
	"Tasmania Standard Time":         "Australia/Hobart",
	"Turks And Caicos Standard Time": "America/Grand_Turk",
	"US Eastern Standard Time":       "America/Indianapolis",
	"UTC":                            "UTC",
	"W. Europe Standard Time":        "Europe/Berlin",
	"West Bank Standard Time":        "Asia/Hebron",
}

// Find is the zone of that name; nil if there is none, or if the name says nothing.
func Find(name string) *time.Location {
	if iana, known := windows[name]; known {
		name = iana
	}
	if name == "" || name == "Local" { // both mean this machine, or nothing at all
		return nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil
	}
	return zone
}
