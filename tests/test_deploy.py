"Plans of every kind, and the life of an endpoint over HTTP against moto's server, by the commands a person types."
import json, os, random, socket, subprocess, sys, time
from dataclasses import fields, replace

import boto3, pytest
from hypothesis import given, settings, strategies as st
from running import petlost, said

from petlost.deploy import check_report
from petlost.endpoint_requests import Peak, Plan, check_plan, deploy_requests, role_policy, role_requests, validate_requests

IMAGE, ROLE = '123456789012.dkr.ecr.eu-west-1.amazonaws.com/petlost:0.1.0', 'arn:aws:iam::123456789012:role/petlost'
PLAN = Plan('pets', IMAGE, 's3://pets/archives/0123456789ab/model.tar.gz', ROLE)

wishes = st.fixed_dictionaries({}, optional=dict(
    instances=st.integers(1, 6), max_instances=st.integers(1, 8), searches_per_minute=st.floats(1, 1e4), searches_at_once=st.floats(.5, 100), canary=st.integers(1, 4),
    serverless_mb=st.sampled_from([1024, 4096, 6144]), answers_to=st.just('s3://pets/answers'), capture_to=st.just('s3://pets/seen'), shadow_data_url=st.just('s3://pets/b/model.tar.gz'),
    subnets=st.just(('subnet-1', 'subnet-2')), security_groups=st.just(('sg-1',)), kms_key=st.just('arn:aws:kms:eu-west-1:123456789012:key/a'), tags=st.just(dict(team='shelters')),
    bake_seconds=st.integers(0, 3600), environment=st.just(dict(PETLOST='1')),
    peaks=st.just((Peak('new-year', 'cron(0 17 31 12 ? *)', 'cron(0 12 1 1 ? *)', 3, 'Europe/Rome'),))))


@settings(max_examples=150, deadline=None)
@given(wishes)
def test_a_plan_is_refused_or_its_requests_are_valid_and_in_order(wished):
    plan = replace(PLAN, **wished)
    try: check_plan(plan)
    except ValueError as e:
        assert str(e).startswith('endpoint pets: ') and '\n' not in str(e)
        with pytest.raises(ValueError): deploy_requests(plan)
        return
    requests = deploy_requests(plan)
    assert requests == deploy_requests(plan)
    made = set()
    for service, operation, params in requests:
        named = [params[k] for k in ('EndpointConfigName', 'ResourceId') if operation != 'CreateEndpointConfig' and k in params]
        named += [v['ModelName'] for kind in ('ProductionVariants', 'ShadowProductionVariants') for v in params.get(kind, ())]
        assert {n.split('/')[1] if '/' in n else n for n in named} <= made, f'{operation} points at what is not there yet'
        made |= {params[k] for k in ('ModelName', 'EndpointConfigName', 'EndpointName') if k in params}
        if operation.startswith('Create') or operation == 'PutMetricAlarm': assert dict(Key='petlost:endpoint', Value='pets') in params['Tags']
        if operation == 'CreateModel': assert params['EnableNetworkIsolation'] != bool(plan.serverless_mb) and params.get('VpcConfig', {}).get('Subnets', []) == list(plan.subnets)
    scaling_in = [p for _, o, p in requests if o == 'PutScalingPolicy' and not p['TargetTrackingScalingPolicyConfiguration'].get('DisableScaleIn')]
    assert len(scaling_in) == any(o == 'RegisterScalableTarget' for _, o, _ in requests)


@settings(max_examples=60, deadline=None)
@given(wishes)
def test_a_role_may_touch_nothing_but_its_own(wished):
    plan = replace(PLAN, **wished)
    validate_requests(role_requests(plan))
    for statement in role_policy(plan)['Statement']:
        for resource in statement['Resource']:
            if resource == '*': assert set(statement['Action']) <= {'ecr:GetAuthorizationToken', 'cloudwatch:PutMetricData'} or statement['Sid'] == 'Network'
            else: assert any(own in resource for own in ('s3:::pets', 'repository/petlost', '/aws/sagemaker/Endpoints/pets', ':key/a')), resource
        assert not any('*' in action or action.split(':')[1].startswith('Delete') for action in statement['Action']) or statement['Sid'] == 'Network'


def test_another_content_is_another_name():
    names = set()
    for field, value in dict(image=IMAGE + '1', model_data_url='s3://pets/c/model.tar.gz', role=ROLE + '2', environment=dict(A='1'), instance_type='ml.c7i.2xlarge', capture_to='s3://pets/seen', variant=dict(VolumeSizeInGB=50)).items():
        names.add(next(p['EndpointConfigName'] for _, o, p in deploy_requests(replace(PLAN, **{field: value})) if o == 'CreateEndpointConfig'))
    assert len(names) == 7


@pytest.mark.parametrize('text, words', [
    ('', 'not a replay report'), ('[]', 'not a replay report'), ('{"decision": "promote"}', 'not a replay report'), ('{"decision": "hold", "candidate": "0123456789ab", "current": null}', 'says hold'),
    ('{"decision": "promote", "candidate": "", "current": null}', 'was of archive'), ('{"decision": "promote", "candidate": null, "current": null}', 'was of archive'),
    ('{"decision": ["promote"], "candidate": "0123456789ab", "current": null}', 'not promote'), ('{"decision": "promote", "candidate": "ffffffffffff0000", "current": null}', 'was of archive')])
def test_only_a_report_about_this_archive_promotes_it(tmp_path, text, words):
    (tmp_path / 'r.json').write_text(text)
    with pytest.raises(ValueError, match=words): check_report(tmp_path / 'r.json', PLAN.model_data_url)


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(ValueError, match='gone.json: not a replay report'): check_report(tmp_path / 'gone.json', PLAN.model_data_url)


@pytest.fixture(scope='module')
def cloud(tmp_path_factory):
    "moto's server in a process of its own: the environment in which a command believes that it is AWS."
    with socket.create_server(('127.0.0.1', 0)) as free: port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p', str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = dict(AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}', AWS_DEFAULT_REGION='eu-west-1', AWS_ACCESS_KEY_ID='testing', AWS_SECRET_ACCESS_KEY='testing', AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    try:
        for _ in range(600):
            try: socket.create_connection(('127.0.0.1', port)).close(); break
            except OSError: time.sleep(.1)
        yield env
    finally: process.kill(); process.wait()


def test_an_endpoint_from_the_first_command_to_the_last(cloud, tmp_path):
    env = os.environ | cloud
    client = boto3.Session('testing', 'testing', region_name='eu-west-1').client
    s3, sagemaker = client('s3', endpoint_url=cloud['AWS_ENDPOINT_URL']), client('sagemaker', endpoint_url=cloud['AWS_ENDPOINT_URL'])
    s3.create_bucket(Bucket='pets', CreateBucketConfiguration=dict(LocationConstraint='eu-west-1'))
    archive = tmp_path / 'model.tar.gz'
    archive.write_bytes(random.Random(1).randbytes(100_000))
    command = ['deploy', 'pets', '--image', IMAGE, '--role', ROLE, '--model-data', archive, '--to', 's3://pets/archives', '--instance-type', 'ml.c5.xlarge']

    refused = petlost(*command, env=env)
    assert refused.returncode == 1 and 'no replay report' in refused.stderr and sagemaker.list_models()['Models'] == []
    url = said(refused)[0]
    (tmp_path / 'replay.json').write_text(json.dumps(dict(decision='promote', candidate=url.split('/')[-2] + 'f' * 52, current=None)))
    first, again = (petlost(*command, '--report', tmp_path / 'replay.json', env=env) for _ in range(2))
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert {line.split()[0] for line in first.stdout.splitlines()} == {'created', 'set'} and {line.split()[0] for line in again.stdout.splitlines()} == {'kept'}

    seen = json.loads(petlost('endpoint', 'status', 'pets', env=env).stdout)
    assert (seen['status'], seen['archives'], seen['bounds']) == ('InService', [url], [[1, 4]])
    assert petlost('endpoint', 'rollback', 'pets', env=env).returncode == 1
    planned = petlost('endpoint', 'destroy', 'pets', '--dry-run', env=env).stdout
    assert json.loads(petlost('endpoint', 'status', 'pets', env=env).stdout) == seen
    assert petlost('endpoint', 'destroy', 'pets', env=env).stdout == planned and len(planned.splitlines()) == 8
    assert sagemaker.list_models()['Models'] == sagemaker.list_endpoint_configs()['EndpointConfigs'] == []
    assert s3.list_objects_v2(Bucket='pets')['KeyCount'] == 1, 'the archive is the way back'


def test_without_an_account_one_line(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith('AWS_')} | dict(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED='true')
    for command in (['endpoint', 'status', 'pets'], ['endpoint', 'destroy', 'pets'], ['deploy', 'pets', '--image', IMAGE, '--role', ROLE, '--model-data', PLAN.model_data_url, '--force']):
        done = petlost(*command, env=env)
        assert done.returncode == 1 and len(said(done)) == 1 and 'region' in done.stderr, done.stderr


def test_a_plan_file_may_say_anything_a_plan_says(tmp_path):
    plan = replace(PLAN, tags=dict(team='shelters'), peaks=(Peak('a', 'cron(0 17 31 12 ? *)', 'cron(0 12 1 1 ? *)', 2),), subnets=('subnet-1',), security_groups=('sg-1',), canary=2)
    facts = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in ('name', 'image', 'model_data_url', 'role')}
    (tmp_path / 'plan.json').write_text(json.dumps(facts | dict(peaks=[vars(p) for p in plan.peaks])))
    done = petlost('deploy', 'pets', '--image', IMAGE, '--role', ROLE, '--model-data', PLAN.model_data_url, '--plan', tmp_path / 'plan.json', '--dry-run')
    assert done.returncode == 0, done.stderr
    assert [(r['service'], r['operation'], r['parameters']) for r in json.loads(done.stdout)] == [tuple(r) for r in json.loads(json.dumps(deploy_requests(plan)))]
