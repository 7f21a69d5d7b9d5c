package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"holdfast/repo/blob"
)

// Mode is how hard a repository compresses. The empty Mode is Auto.
type Mode string

// The modes. Auto takes zstd where it pays, s2 where zstd gains little over
// it, and none where nothing helps; Fast is s2 or none; Max a slower zstd or
// none; None never compresses.
const (
	Auto Mode = "auto"
	None Mode = "none"
	Fast Mode = "fast"
	Max  Mode = "max"
)

// ErrMode is returned by ParseMode for an unknown word.
var ErrMode = errors.New("compression must be auto, none, fast or max")

// ParseMode reads a mode as an operator writes it.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, None, Fast, Max:
		return m, nil
	}
	return "", fmt.Errorf("parse compression %q: %w", s, ErrMode)
}

// Codecs as they stand in a frame.
const (
	codecNone = 0
	codecZstd = 1
	codecS2   = 2
)

// ErrCodec: a frame does not decode to what its head promises.
var ErrCodec = errors.New("compressed bytes do not decode")

const (
	// A codec is worth its decoding only if it saves 1/32, some 3 %, of the
	// raw bytes over the cheaper choice.
	worthShift = 5
	// Less than this is not worth a look.
	minCompress = 64
	// From this size on, Auto decides by samples: two pieces of sampleBytes.
	sampleFrom  = 48 << 10
	sampleBytes = 8 << 10
	// No match reaches back further; it bounds an encoder's memory.
	windowBytes = 4 << 20
)

// compressor is the memory of one compression in progress.
type compressor struct {
	encoders [3]*zstd.Encoder // by way, made on first use
	sample   []byte
	trial    []byte
}

// way is how to compress a chunk: with s2 or one of three zstd encoders.
type way int

const (
	hasty    way = iota // zstd that gives up on bytes without repeats: 5 GB/s
	ordinary            // zstd that tries entropy coding on all: base64, numbers
	thorough            // zstd, twice the time of ordinary for some per cent
	quick               // s2
)

// Pools hold idle encoders and decoders; the collector empties them. One in
// use serves one goroutine, so memory is bounded by the number of goroutines.
var (
	compressors = sync.Pool{New: func() any { return new(compressor) }}
	decoders    = sync.Pool{New: func() any { return newDecoder() }}
)

// Compress frames plain for a Chunk: codec u8 ‖ rawLen u32 ‖ payload. The
// choice of the codec depends on mode, kind and bytes alone. It uses dst's
// memory if there is enough; plain must not overlap it and may not be longer
// than MaxRawBytes.
func Compress(mode Mode, kind blob.Kind, plain, dst []byte) []byte {
	dst = slices.Grow(dst[:0], frameBytes+s2.MaxEncodedLen(len(plain)))
	dst = append(dst, codecNone, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(dst[1:], uint32(len(plain)))
	if mode != None && len(plain) >= minCompress {
		c := compressors.Get().(*compressor)
		out, ok := c.compress(mode, kind, plain, dst)
		compressors.Put(c)
		if ok {
			return out
		}
		dst[0] = codecNone
	}
	return append(dst, plain...)
}

// compress appends the payload to the head of the frame and sets its codec;
// false if no codec is worth it.
func (c *compressor) compress(mode Mode, kind blob.Kind, plain, dst []byte) ([]byte, bool) {
	var w way
	switch {
	case mode == Fast, isNode(kind): // nodes are mostly ids: random bytes
		w = quick
	case mode == Max:
		w = thorough
	default:
		w = c.choose(plain)
	}
	var out []byte
	if w == quick {
		payload := s2.Encode(dst[frameBytes:cap(dst)], plain) // dst was grown: no allocation
		out = dst[:frameBytes+len(payload)]
		out[0] = codecS2
	} else {
		out = c.zstd(w).EncodeAll(plain, dst)
		out[0] = codecZstd
	}
	return out, worth(len(plain), len(out)-frameBytes, len(plain))
}

func isNode(kind blob.Kind) bool { return kind.IsMeta() && kind != blob.Record }

// worth tells whether after bytes instead of before are a gain that counts.
func worth(before, after, raw int) bool { return before-after > raw>>worthShift }

// choose picks the way of Auto. Large plaintexts are judged by samples, because
// zstd is most of a backup's CPU time. Bytes on which nothing works get the
// zstd that gives up soon, in case the samples were not typical.
func (c *compressor) choose(plain []byte) way {
	if len(plain) >= sampleFrom {
		first, middle := len(plain)/8, len(plain)/2
		c.sample = append(append(c.sample[:0], plain[first:first+sampleBytes]...), plain[middle:middle+sampleBytes]...)
		plain = c.sample
	}
	c.trial = slices.Grow(c.trial[:0], s2.MaxEncodedLen(len(plain)))
	fast := len(s2.Encode(c.trial[:cap(c.trial)], plain))
	c.trial = c.zstd(ordinary).EncodeAll(plain, c.trial[:0])
	switch {
	case worth(fast, len(c.trial), len(plain)):
		return ordinary
	case worth(len(plain), fast, len(plain)):
		return quick
	}
	return hasty
}

// zstd returns the encoder of a way. No checksum: the seal is a better one.
func (c *compressor) zstd(w way) *zstd.Encoder {
	if c.encoders[w] == nil {
		level := zstd.SpeedFastest
		if w == thorough {
			level = zstd.SpeedBetterCompression
		}
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithAllLitEntropyCompression(w != hasty),
			zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(windowBytes), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("pack: zstd refused constant options: " + err.Error())
		}
		c.encoders[w] = e
	}
	return c.encoders[w]
}

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRawBytes+1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("pack: zstd refused constant options: " + err.Error())
	}
	return d
}

// cutFrame reads the head of a frame.
func cutFrame(framed []byte) (codec byte, raw int, payload []byte, err error) {
	if len(framed) < frameBytes {
		return 0, 0, nil, fmt.Errorf("read frame of %d bytes: %w", len(framed), ErrCodec)
	}
	size := binary.LittleEndian.Uint32(framed[1:])
	if size > MaxRawBytes {
		return 0, 0, nil, fmt.Errorf("read frame: %d raw bytes: %w", size, ErrCodec)
	}
	return framed[0], int(size), framed[frameBytes:], nil
}

// Decompress undoes Compress. The output is exactly as long as the frame says,
// at most MaxRawBytes, or the error is ErrCodec. It uses dst's memory if there
// is enough; framed must not overlap it.
func Decompress(framed, dst []byte) ([]byte, error) {
	codec, raw, payload, err := cutFrame(framed)
	if err != nil {
		return nil, err
	}
	switch codec {
	case codecNone:
		if len(payload) != raw {
			return nil, fmt.Errorf("read frame: %d bytes where it says %d: %w", len(payload), raw, ErrCodec)
		}
		return append(dst[:0], payload...), nil
	case codecZstd:
		return decodeZstd(payload, raw, dst)
	case codecS2:
		n, err := s2.DecodedLen(payload)
		if err != nil || n != raw {
			return nil, fmt.Errorf("decode s2: length: %w", ErrCodec)
		}
		out, err := s2.Decode(slices.Grow(dst[:0], raw)[:raw], payload)
		if err != nil || len(out) != raw {
			return nil, fmt.Errorf("decode s2: %w: %w", ErrCodec, err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("decode codec %d: %w", codec, ErrCodec)
}

func decodeZstd(payload []byte, raw int, dst []byte) ([]byte, error) {
	var head zstd.Header // asked before any memory is taken; short frames name no length
	if err := head.Decode(payload); err != nil || (head.HasFCS && head.FrameContentSize != uint64(raw)) {
		return nil, fmt.Errorf("decode zstd: frame length: %w", ErrCodec)
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	out, err := d.DecodeAll(payload, slices.Grow(dst[:0], raw)[:0:raw])
	if err != nil {
		return nil, fmt.Errorf("decode zstd: %w: %w", ErrCodec, err)
	}
	if len(out) != raw {
		return nil, fmt.Errorf("decode zstd: %d bytes where the frame says %d: %w", len(out), raw, ErrCodec)
	}
	return out, nil
}
