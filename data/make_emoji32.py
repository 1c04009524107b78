#!/usr/bin/env python3
"""Makes data/emoji32.zip: emoji of the Noto Color Emoji font, 32x32 on white, ten classes.

Needs (Debian 12; other versions give other pictures, and may give other hashes):
    apt install fonts-noto-color-emoji unicode-data     the font 2.042, the list of emoji 15.0
    python3 -m pip install pillow==13.0.0               (FreeType 2.14.3; with Raqm, which joins the characters of an emoji)

    python3 data/make_emoji32.py data/emoji32.zip [--sheet sheet.png]

What is drawn: every fully qualified emoji of emoji-test.txt, but
  - of the five skin tones only light and medium-dark, and these only where they change a single character;
  - no families of several figures, which differ in a few pixels;
  - nothing that looks as one drawn before (mean difference below 2 of 255: flags of overseas territories and the like).
The same input gives the same bytes.
"""
import argparse
import collections
import hashlib
import io
import json
import re
import zipfile

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat, features

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
LIST = "/usr/share/unicode/emoji/emoji-test.txt"
SIDE = 32
CLASSES = ["faces", "emotion", "people", "animals", "food", "travel", "activities", "objects", "symbols", "flags"]
GROUPS = {"People & Body": 2, "Animals & Nature": 3, "Food & Drink": 4, "Travel & Places": 5, "Activities": 6,
          "Objects": 7, "Symbols": 8, "Flags": 9}
TONES = set(range(0x1F3FB, 0x1F400))
KEPT_TONES = {0x1F3FB, 0x1F3FE}
JOINER = 0x200D


def class_of(group, subgroup):
    if group == "Smileys & Emotion":
        yellow = subgroup.startswith("face-") and subgroup not in ("face-negative", "face-costume")
        return 0 if yellow else 1
    return GROUPS.get(group)


def wanted(points, subgroup):
    tones = TONES.intersection(points)
    if tones:
        return tones <= KEPT_TONES and JOINER not in points
    return not (subgroup == "family" and JOINER in points)


def emoji():
    """(class, text) of every emoji that is to be drawn, in the order of the list."""
    group = subgroup = None
    for line in open(LIST, encoding="utf-8"):
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.split(":", 1)[1].strip()
        found = re.match(r"([0-9A-F ]+); fully-qualified", line)
        if not found:
            continue
        points = [int(p, 16) for p in found.group(1).split()]
        label = class_of(group, subgroup)
        if label is not None and wanted(points, subgroup):
            yield label, "".join(map(chr, points))


def draw(font, text):
    """32x32 RGB on white; None if the font lacks it (draws nothing, or several glyphs side by side)."""
    left, top, right, bottom = font.getbbox(text)
    side = 136  # the font's only size: bitmaps of 136 x 128
    if right - left > side or right <= left:
        return None
    big = Image.new("RGBA", (side, side), "white")
    ImageDraw.Draw(big).text(((side - right - left) // 2, (side - bottom - top) // 2), text, font=font,
                             embedded_color=True)
    if big.getextrema()[0][0] == 255 and big.getextrema()[1][0] == 255:
        return None
    return big.convert("RGB").resize((SIDE, SIDE), Image.LANCZOS)


def looks_like_one_of(image, seen):
    return any(sum(ImageStat.Stat(ImageChops.difference(image, other)).sum) < 2 * 3 * SIDE * SIDE for other in seen)


def png(image):
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def sheet(path, images, columns=64):
    rows = (len(images) + columns - 1) // columns
    out = Image.new("RGB", (columns * (SIDE + 2), rows * (SIDE + 2)), "gray")
    for i, image in enumerate(images):
        out.paste(image, (i % columns * (SIDE + 2), i // columns * (SIDE + 2)))
    out.save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--sheet", help="also a picture of them all")
    options = parser.parse_args()
    if not features.check("raqm"):
        raise SystemExit("this Pillow lacks Raqm, without which joined emoji fall apart")
    font = ImageFont.truetype(FONT, 109, layout_engine=ImageFont.Layout.RAQM)
    by_class = collections.defaultdict(list)
    seen = collections.defaultdict(list)  # by coarse colour, so that few have to be compared
    for label, text in emoji():
        image = draw(font, text)
        if image is None:
            continue
        key = tuple(c // 24 for c in image.resize((1, 1), Image.BOX).getpixel((0, 0)))
        near = [p for k in seen for p in seen[k] if all(abs(a - b) <= 1 for a, b in zip(k, key))]
        if looks_like_one_of(image, near):
            continue
        seen[key].append(image)
        by_class[label].append(image)

    images = [(label, image) for label in sorted(by_class) for image in by_class[label]]
    files = [(f"{i // 1000:05d}/img{i:08d}.png", label, image) for i, (label, image) in enumerate(images)]
    text = json.dumps({"labels": [[name, label] for name, label, _ in files], "classes": CLASSES},
                      separators=(",", ":")).replace("],", "],\n")
    members = [("dataset.json", text.encode())] + [(name, png(image)) for name, _, image in files]
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            if name.endswith(".json"):
                info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    for label, name in enumerate(CLASSES):
        print(f"{label} {name}: {len(by_class[label])}")
    print(len(files), "pictures, sha256", hashlib.sha256(open(options.out, "rb").read()).hexdigest())
    if options.sheet:
        sheet(options.sheet, [image for _, _, image in files])


main()
