"""What every Python child of contenders.py does once it is loaded."""
import sys
import time


def serve(name, step, save=None, shortest=0.0):
    """`run` -> seconds of step(), the mean of as many as take `shortest`; `output FILE` -> save(FILE, the last result)."""
    result = step()
    print(f"ready {name}", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["run"]:
            start, calls, seconds = time.perf_counter(), 0, 0.0
            while calls == 0 or seconds < shortest:
                result = step()
                calls += 1
                seconds = time.perf_counter() - start
            print(f"{seconds / calls:.9f}", flush=True)
        elif len(words) == 2 and words[0] == "output" and save:
            save(words[1], result)
            print("saved", flush=True)
        else:
            break
