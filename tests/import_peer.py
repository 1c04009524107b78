#!/usr/bin/env python3
"""What PyTorch writes through `fdm import`, and what `fdm export` writes through torch.load; prints ok and FAIL lines.

    import_peer.py FDM SCRATCH [--sanitized]      --sanitized: a slow build, so no large files and no limits of time

make check-import runs it with the large files too, which it tells by the environment: FDM_LARGE=1 is 300 MB in the legacy
layout, too, FDM_LARGE_MODEL=FILE a model file with the published CIFAR-10 network's sizes, FDM_REPORT=FILE where the figures
go.
"""
import glob
import json
import os
import platform
import subprocess
import sys

import numpy
import torch

import make_pickles

fdm, scratch = sys.argv[1:3]
sanitized = len(sys.argv) > 3


passed = failed = 0
figures = []  # lines of a table: what, MB of the file, seconds, peak MB


def verdict(name, good, why=''):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print('ok' if good else 'FAIL', name, '' if good else why, flush=True)


def run(*arguments):
    r = subprocess.run((fdm,) + arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return r.returncode == 0, r.stdout.decode()


def same(name, source, expected):
    target = os.path.join(scratch, 'got.safetensors')
    good, why = run('import', source, target)
    if good:
        good, why = run('compare', target, expected, '--ulp', '0')
    verdict(name, good, why)


MEASURE = """import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(code, time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"""


def measured(*arguments):
    """Exit code, seconds and peak MB of a command, started from a small process: a fork's peak begins at its parent's size."""
    out = subprocess.run((sys.executable, '-c', MEASURE, fdm) + arguments, stdout=subprocess.PIPE).stdout.split()
    return int(out[0]), float(out[1]), float(out[2])


def large(name, path, tensors, protocol, new, limit_mb):
    expected = os.path.join(scratch, 'expected.safetensors')
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    make_pickles.safetensors(expected, tensors)
    mb = os.path.getsize(path) / 1e6
    code, seconds, peak = measured('import', path, os.path.join(scratch, 'got.safetensors'), '-q')
    print(f'{name}: {mb:.0f} MB, {seconds:.2f} s, peak {peak:.0f} MB')
    figures.append(f'| {name} | {mb:.0f} | {seconds:.2f} | {peak:.0f} | {limit_mb:.0f} MB |')
    verdict(f'{name}: in {limit_mb:.0f} MB', code == 0 and peak < limit_mb, f'exit code {code}, {peak:.0f} MB')
    same(name, path, expected)
    for leftover in (path, expected, os.path.join(scratch, 'got.safetensors')):
        os.remove(leftover)


def generated():
    sys.argv = ['make_pickles.py', scratch] + (['small'] if sanitized else [])
    make_pickles.main()
    for path in sorted(glob.glob(scratch + '/*.pkl') + glob.glob(scratch + '/*.pt')):
        name = os.path.basename(path)
        expected = 'large_source' if name.startswith('large') else 'source' if name.startswith('source') else 'contents'
        same('torch %s: %s' % (torch.__version__, name), path, f'{scratch}/{expected}.safetensors')


def models():
    """Every network of the golden files as a published snapshot: all preconditionings, all their options."""
    paths = sorted(glob.glob('tests/golden/net_*.safetensors') + glob.glob('tests/golden_extra/net_*.safetensors'))
    for path in paths[::8] if sanitized else paths:
        name = os.path.basename(path)
        pickled, target, model = (os.path.join(scratch, x) for x in ('snapshot.pkl', 'got.safetensors', 'model.safetensors'))
        tensors, _ = make_pickles.read_safetensors(path)
        make_pickles.safetensors(model, {k: v for k, v in tensors.items() if k.startswith('model.')})
        make_pickles.model_as_snapshot(path, pickled)
        same('as a snapshot: ' + name, pickled, model)
        good, why = run('info', target, '--json')
        _, want = run('info', path, '--json')
        config = [json.loads(x)['config'] for x in (why, want)] if good else (1, 2)
        verdict('its configuration', config[0] == config[1], f'{config[0]} instead of {config[1]}')


def statistics():
    """Inception statistics: mu and sigma (smaller than the published 2048) in an .npz, plain and compressed."""
    generator = numpy.random.default_rng(0)
    size = 512
    mu, sigma = generator.standard_normal(size), generator.standard_normal((size, size))
    expected = os.path.join(scratch, 'stats.safetensors')
    make_pickles.safetensors(expected, {'mu': torch.from_numpy(mu), 'sigma': torch.from_numpy(sigma)})
    for save in (numpy.savez, numpy.savez_compressed):
        path = os.path.join(scratch, 'stats.npz')
        save(path, mu=mu, sigma=sigma)
        verdict('Inception statistics by ' + save.__name__, *run('compare', path, expected, '--ulp', '0'))


def cifar():
    """With FDM_LARGE_MODEL, a model file of the published CIFAR-10 network: that one as a snapshot."""
    model = os.environ.get('FDM_LARGE_MODEL')
    if not model:
        return
    path = os.path.join(scratch, 'cifar.pkl')
    make_pickles.model_as_snapshot(model, path)
    mb = os.path.getsize(path) / 1e6
    best = 1e9  # what else the machine does is not the program's
    for _ in range(5):
        code, seconds, peak = measured('import', path, os.path.join(scratch, 'got.safetensors'), '-q')
        best = min(best, seconds)
        print(f'CIFAR-10 snapshot: {mb:.0f} MB, {seconds:.2f} s, peak {peak:.0f} MB')
        figures.append(f'| CIFAR-10 snapshot | {mb:.0f} | {seconds:.2f} | {peak:.0f} | 2 s, 600 MB |')
    verdict('CIFAR-10 snapshot: 2 s, 600 MB', code == 0 and best < 2 and peak < 600, f'{code}, {best}, {peak}')
    same('CIFAR-10 snapshot', path, model)


def exported():
    model = os.path.join(scratch, 'contents.safetensors')
    path = os.path.join(scratch, 'exported.pt')
    good, why = run('export', model, path)
    verdict('export', good, why)
    _, tensors = make_pickles.contents()
    got = torch.load(path, weights_only=True)
    verdict('torch.load(weights_only=True): names', list(got) == list(tensors), str(list(got)))
    for name, t in tensors.items():
        g = got[name]
        if g.dtype != t.dtype or g.shape != t.shape or make_pickles.raw(g) != make_pickles.raw(t):
            verdict('torch.load: ' + name, False, f'{g} instead of {t}')
            break
    else:
        verdict('torch.load(weights_only=True): elements', True)


def report(path, load):
    """Appends a section of figures."""
    with open('/proc/cpuinfo') as f:
        cpu = next((line.split(':')[1].strip() for line in f if line.startswith('model name')), platform.machine())
    with open(path, 'a') as f:
        f.write(f'\n**PyTorch {torch.__version__.split("+")[0]}, Python {platform.python_version()}.** {cpu}, {os.cpu_count()} cores; '
                f'load when it began {load[0]:.1f}, when it ended {os.getloadavg()[0]:.1f}. {passed} checks passed, {failed} failed.\n\n'
                '| file | MB | seconds | peak MB | limit |\n|---|---|---|---|---|\n' + '\n'.join(figures) + '\n')


def main():
    load = os.getloadavg()
    os.makedirs(scratch, exist_ok=True)
    generated()
    models()
    exported()
    statistics()
    cifar()
    if sanitized:
        print('SKIP: large files: a sanitizer build is too slow for them')
        return
    torch.manual_seed(0)
    base = torch.randn(26 << 10, 1024)
    tensors = {'t0': base, 't1': base + 1, 'tied': base, 'turned': base[:2048].t(), 'last': base + 2}
    for new in (True, False) if os.environ.get('FDM_LARGE') else (True,):  # 327 MB, 444 MB as a safetensors file
        large('300 MB, %s' % ('zip' if new else 'legacy, protocol 4'), scratch + '/large.pt', tensors, 2 if new else 4, new, 2 * 319 + 32)
    if os.environ.get('FDM_REPORT'):
        report(os.environ['FDM_REPORT'], load)


if __name__ == '__main__':
    main()
