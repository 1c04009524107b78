"""The machine a result belongs to."""
import datetime
import os
import platform
import re

TELLING = ["sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
           "amx_tile"]


def date():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _cpuinfo():
    fields = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            for line in f:
                key, _, value = line.partition(":")
                fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    return fields


def _caches():
    result, base = {}, "/sys/devices/system/cpu/cpu0/cache"
    for index in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        try:
            level, kind, size = (open(os.path.join(base, index, k), encoding="utf-8").read().strip()
                                 for k in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            result["L" + level] = size
    return result


def describe():
    info = _cpuinfo()
    cpu = info.get("model name", platform.processor() or platform.machine())
    flags = set(info.get("flags", "").split())
    widest = "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    slug = re.sub(r"[^a-z0-9]+", "-", f"{cpu} {os.cpu_count()} cores {widest}".lower()).strip("-")
    return {"slug": slug, "cpu": cpu, "family_model_stepping": [info.get(k) for k in ("cpu family", "model", "stepping")],
            "cores": os.cpu_count(), "flags": [f for f in TELLING if f in flags], "caches": _caches(),
            "memory_gb": round(memory / 1e9, 1), "kernel": platform.release(), "date": date(),
            "load_average": os.getloadavg()}
