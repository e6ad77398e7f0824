// Makes src/consent/vectors.json: TC and GPP strings from the IAB's own encoders, with the fields that the
// IAB's own decoder reads from them and the permits that follow. It is run by hand, and the result is
// committed so that the tests need no network:
//
//   npm install --no-save --prefix .cache/tc @iabtechlabtcf/core@1.5.21 @iabgpp/cmpapi@3.2.0
//   node script/tc_vectors.mjs >src/consent/vectors.json
//
// The rule for the expected permit is in `expected`. It works on the decoded fields and shares nothing with
// the collector's code.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../.cache/tc/package.json', import.meta.url));
const { GVL, PurposeRestriction, Segment, TCModel, TCString } = require('@iabtechlabtcf/core');
const { GppModel } = require('@iabgpp/cmpapi');

const BEFORE_2_3 = '2025-11-03';
const SINCE_2_3 = '2026-05-04';
const VENDORS_MAX = 1400;

// Gives the same numbers on each run (xorshift32).
let state = 20261124;
const random = below => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
const some = (ids, of) => ids.filter(() => random(of) !== 0);
const span = (first, last) => Array.from({ length: last - first + 1 }, (_, at) => first + at);

// A vendor list in which each vendor may do everything, so that the encoder changes no bit.
const gvl = policy => {
  const named = id => ({ id, name: `${id}`, description: '', illustrations: [] });
  const table = last => Object.fromEntries(span(1, last).map(id => [id, named(id)]));
  const vendor = id => ({
    id, name: `${id}`, purposes: span(1, 11), legIntPurposes: [2, 7, 8, 9, 10, 11],
    flexiblePurposes: span(1, 11), specialPurposes: [1, 2, 3], features: [1, 2, 3],
    specialFeatures: [1, 2], urls: [], usesCookies: true, cookieMaxAgeSeconds: 1,
  });
  return new GVL({
    gvlSpecificationVersion: 3, vendorListVersion: 177, tcfPolicyVersion: policy,
    lastUpdated: '2026-01-01T00:00:00Z', purposes: table(11), specialPurposes: table(3),
    features: table(3), specialFeatures: table(2), stacks: {}, dataCategories: {},
    vendors: Object.fromEntries(span(1, VENDORS_MAX).map(id => [id, vendor(id)])),
  });
};
const lists = new Map();

function encode(want) {
  if (!lists.has(want.policy)) lists.set(want.policy, gvl(want.policy));
  const model = new TCModel(lists.get(want.policy));
  model.cmpId = 300 + random(100);
  model.cmpVersion = 1 + random(60);
  model.consentScreen = 1;
  model.publisherCountryCode = ['SE', 'NO', 'DE'][random(3)];
  model.isServiceSpecific = want.serviceSpecific !== false;
  model.policyVersion = want.policy;
  model.purposeConsents.set(want.consents);
  model.purposeLegitimateInterests.set(want.interests);
  model.specialFeatureOptins.set(want.special || []);
  model.vendorConsents.set(want.vendors);
  model.vendorLegitimateInterests.set(want.interestVendors || want.vendors);
  for (const [purpose, type, vendors] of want.restrictions || [])
    for (const vendor of vendors) model.publisherRestrictions.add(vendor, new PurposeRestriction(purpose, type));
  const segments = [Segment.CORE];
  if (want.disclosed) {
    model.vendorsDisclosed.set(want.disclosed);
    segments.push(Segment.VENDORS_DISCLOSED);
  }
  if (want.publisher) {
    model.publisherConsents.set([1, 2, 5]);
    model.numCustomPurposes = 3;
    model.publisherCustomConsents.set([1, 3]);
    segments.push(Segment.PUBLISHER_TC);
  }
  const date = new Date(`${want.date || BEFORE_2_3}T00:00:00Z`);
  model.created = date;
  model.lastUpdated = date;
  return TCString.encode(model, { segments });
}

const ids = vector => span(1, Math.max(vector.maxId, 0)).filter(id => vector.has(id));
// Writes a list as `1-3 7`, which is shorter to read.
const shortly = list => {
  const parts = [];
  for (const id of list) {
    const last = parts.at(-1);
    if (last && last[1] === id - 1) last[1] = id;
    else parts.push([id, id]);
  }
  return parts.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(' ');
};
// Bit 229 of the core segment says how the vendors with consent are written.
const encoding = string => {
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const at = 6 + 36 + 36 + 12 + 12 + 6 + 12 + 12 + 6 + 1 + 1 + 12 + 24 + 24 + 1 + 12 + 16;
  return digits.indexOf(string[Math.floor(at / 6)]) >> (5 - (at % 6)) & 1 ? 'ranges' : 'bits';
};

function decode(string) {
  const model = TCString.decode(string);
  return {
    policy: model.policyVersion,
    serviceSpecific: model.isServiceSpecific,
    lastUpdated: model.lastUpdated.toISOString(),
    special: ids(model.specialFeatureOptins),
    consents: ids(model.purposeConsents),
    interests: ids(model.purposeLegitimateInterests),
    vendors: ids(model.vendorConsents),
    interestVendors: ids(model.vendorLegitimateInterests),
    disclosed: string.split('.').some(part => /^[I-P]/.test(part)) ? ids(model.vendorsDisclosed) : null,
    restrictions: model.publisherRestrictions.getRestrictions().map(one => ({
      purpose: one.purposeId, type: one.restrictionType, vendors: model.publisherRestrictions.getVendors(one),
    })),
  };
}

// What a vendor may do, written straight from the policy.
function expected(said, vendor) {
  const none = { consents: [], interests: [], ad: [], page: [] };
  if (said.policy < 4 || !said.serviceSpecific) return none;
  const since = said.policy >= 5 || said.lastUpdated >= '2026-03-01T00:00:00.000Z';
  if (said.disclosed ? !said.disclosed.includes(vendor) : since) return none;
  const restricted = (purpose, types) => said.restrictions
    .some(one => one.purpose === purpose && types.includes(one.type) && one.vendors.includes(vendor));
  const consents = said.consents
    .filter(purpose => said.vendors.includes(vendor) && !restricted(purpose, [0, 2]));
  const interests = said.interests
    .filter(purpose => said.interestVendors.includes(vendor) && !restricted(purpose, [0, 1]));
  const either = purpose => consents.includes(purpose) ||
    (interests.includes(purpose) && ![3, 4, 5, 6].includes(purpose));
  const serves = span(2, 11).some(either);
  const permit = measured => [
    consents.includes(1) && 'store',
    either(measured) && 'measure',
    consents.includes(3) && consents.includes(4) && 'profile',
    consents.includes(1) && serves && 'match',
    consents.includes(1) && serves && 'link',
    said.special.includes(1) && serves && 'locate',
  ].filter(Boolean);
  return { consents, interests, ad: permit(7), page: permit(8) };
}

const ALL = span(1, 11);
const LI = [2, 7, 8, 9, 10, 11];
const vectors = [];
const add = (name, want, checked, more = {}) => {
  const string = more.string || encode(want);
  const said = more.said || decode(string);
  vectors.push({
    name, string, encoding: encoding(more.section || string),
    said: {
      ...said, vendors: shortly(said.vendors), interestVendors: shortly(said.interestVendors),
      disclosed: said.disclosed && shortly(said.disclosed),
      restrictions: said.restrictions.map(one => ({ ...one, vendors: shortly(one.vendors) })),
    },
    expect: checked.map(vendor => ({ vendor, ...expected(said, vendor) })),
  });
};

const sets = {
  'few, as bits': [2, 10, 12, 33],
  'dense, as bits': span(1, 40).concat(span(42, 90)),
  'sparse, as ranges': [7, 755, 1200],
  'long ranges': span(1, 600).concat(span(700, 1300)),
  'none': [],
};
const checked = [1, 2, 10, 41, 755, 1300];
for (const [set, vendors] of Object.entries(sets)) {
  for (const policy of [2, 4, 5]) {
    const all = { policy, consents: ALL, interests: LI, special: [1, 2], vendors };
    add(`policy ${policy}, ${set}, nothing disclosed`, all, checked);
    add(`policy ${policy}, ${set}, all disclosed`, { ...all, disclosed: span(1, VENDORS_MAX) }, checked);
    add(`policy ${policy}, ${set}, some disclosed, publisher's own`,
      { ...all, disclosed: [2, 41, 755, 1300], publisher: true }, checked);
  }
}
const base = { policy: 4, vendors: sets['dense, as bits'], consents: ALL, interests: LI, special: [1] };
for (const purpose of [1, 3, 4, 7, 8]) {
  for (const type of [0, 1, 2]) {
    add(`purpose ${purpose} restricted, type ${type}`,
      { ...base, restrictions: [[purpose, type, [2, 10, ...span(60, 80)]]] }, [1, 2, 10, 70]);
    add(`purpose ${purpose} restricted, type ${type}, no consent to it`,
      { ...base, consents: ALL.filter(one => one !== purpose), restrictions: [[purpose, type, [2, 10]]] }, [1, 2]);
  }
}
add('restrictions of all types at once',
  { ...base, restrictions: [[7, 0, [2]], [7, 1, [10, 11, 12]], [8, 2, span(1, 30)], [1, 0, [70]], [3, 1, [12]]] },
  [1, 2, 10, 12, 70]);
for (const [name, change] of Object.entries({
  'interest alone': { consents: [], interestVendors: sets['dense, as bits'], vendors: [] },
  'interest in 7 alone': { consents: [1], interests: [7] },
  'interest in 8 alone': { consents: [1], interests: [8] },
  'store alone': { consents: [1], interests: [], special: [] },
  'store and the special feature': { consents: [1], interests: [] },
  'special feature 2': { special: [2] },
  'no special feature': { special: [] },
  'the special feature and no purpose': { consents: [], interests: [] },
  'profiles without ads': { consents: [1, 3, 4], interests: [] },
  'ads without profiles': { consents: [1, 2, 3, 7], interests: [] },
  'content only': { consents: [1, 5, 6], interests: [] },
  'consent to all but 1': { consents: ALL.slice(1), interests: LI },
  'refused': { consents: [], interests: [], special: [], vendors: [] },
  'not service-specific': { serviceSpecific: false },
  'policy 3': { policy: 3 },
  'policy 6': { policy: 6, disclosed: span(1, 90) },
  'made since TCF 2.3, not disclosed': { date: SINCE_2_3 },
  'made since TCF 2.3, disclosed': { date: SINCE_2_3, disclosed: span(1, 90) },
  'made since TCF 2.3, another disclosed': { date: SINCE_2_3, disclosed: [3] },
})) add(name, { ...base, ...change }, [1, 2, 41]);
for (let number = 0; number < 24; number += 1) {
  const pick = of => some(span(1, random(2) ? 80 : 1300), of);
  add(`random ${number}`, {
    policy: 4 + random(2), consents: some(ALL, 4), interests: some(LI, 3), special: some([1, 2], 2),
    vendors: pick(2 + random(20)), interestVendors: pick(2 + random(20)),
    disclosed: random(4) ? span(1, 400 + random(900)) : undefined, publisher: random(2) === 0,
    restrictions: random(2) ? [[1 + random(11), random(3), some(span(1, 30), 2)]] : [],
    date: random(3) ? BEFORE_2_3 : SINCE_2_3,
  }, [2, 10, 41, 77, 755]);
}

// GPP: the strings above as section 2, alone and among other sections.
const others = {
  'alone': [],
  'with Canada': ['tcfcav1'],
  'with the USA': ['usnat', 'uspv1'],
  'with many': ['uspv1', 'usnat', 'usca', 'usva', 'usco', 'usct'],
};
const usable = vectors.filter(vector => vector.said.serviceSpecific && vector.string.includes('.'));
let at = 0;
for (const [name, sections] of Object.entries(others)) {
  for (let turn = 0; turn < 5; turn += 1) {
    const from = usable[(at += 7) % usable.length];
    const model = new GppModel();
    model.decodeSection('tcfeuv2', from.string);
    for (const section of sections) {
      if (section === 'uspv1') model.setFieldValue('uspv1', 'Notice', 'Y');
      else if (section === 'tcfcav1') {
        model.setFieldValue('tcfcav1', 'CmpId', 50);
        // Without this it would be the day of the run.
        for (const field of ['Created', 'LastUpdated'])
          model.setFieldValue('tcfcav1', field, new Date(`${BEFORE_2_3}T00:00:00Z`));
      }
      else model.setFieldValue(section, 'SaleOptOut', 1);
    }
    const string = model.encode();
    const section = new GppModel(string).encodeSection('tcfeuv2');
    add(`GPP ${name}: ${from.name}`, null, from.expect.map(one => one.vendor), { string, section, said: decode(section) });
  }
}
for (const sections of [['uspv1'], ['usnat', 'usca']]) {
  const model = new GppModel();
  for (const section of sections)
    if (section === 'uspv1') model.setFieldValue('uspv1', 'Notice', 'Y');
    else model.setFieldValue(section, 'SaleOptOut', 1);
  vectors.push({ name: `GPP without section 2: ${sections}`, string: model.encode(), expect: [{ vendor: 2, consents: [], interests: [], ad: [], page: [] }] });
}
process.stdout.write(`[\n${vectors.map(one => JSON.stringify(one)).join(',\n')}\n]\n`);
