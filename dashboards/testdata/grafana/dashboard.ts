// What a dashboard of ours may be: Grafana's classic dashboard, with panels of
// the types that we use, each with that type's options. generate.sh makes
// dashboard.schema.json of it. The types are those of @grafana/schema, which is
// under the Apache License 2.0.
import type {
  AnnotationQuery, Dashboard, FieldConfigSource, Panel, RowPanel,
} from '@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen';
import type { BarGaugeOptions } from './panels/BarGauge';
import type { StatOptions } from './panels/Stat';
import type { StateTimelineField, StateTimelineOptions } from './panels/StateTimeline';
import type { TableField, TableOptions } from './panels/Table';
import type { TimeSeriesField, TimeSeriesOptions } from './panels/TimeSeries';

interface Fields<F> extends Omit<FieldConfigSource, 'defaults'> {
  defaults: Omit<FieldConfigSource['defaults'], 'custom'> & { custom?: F };
}

interface Of<T extends string, O, F> extends Omit<Panel, 'type' | 'targets' | 'options' | 'fieldConfig'> {
  type: T;
  targets: Query[];
  options: O;
  fieldConfig: Fields<F>;
}

// Grafana's types leave queries open, as every datasource has its own. This is
// of packages/grafana-prometheus, what PromQuery has and we use.
interface Query {
  refId: string;
  datasource: { type: 'prometheus'; uid: string };
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  exemplar: boolean;
  format: 'time_series' | 'table' | 'heatmap';
  editorMode: 'code';
}

// As src/annotations.ts of the same package reads it.
interface Annotation extends Omit<AnnotationQuery, 'target'> {
  target: { refId: string; expr: string; interval: string };
  titleFormat: string;
  tagKeys: string;
  useValueForTime: boolean;
}

export interface File extends Omit<Dashboard, 'panels' | 'annotations'> {
  annotations: { list: Annotation[] };
  panels: Array<
    | Of<'bargauge', BarGaugeOptions, {}>
    | Of<'stat', StatOptions, {}>
    | Of<'state-timeline', StateTimelineOptions, StateTimelineField>
    | Of<'table', TableOptions, TableField>
    | Of<'timeseries', TimeSeriesOptions, TimeSeriesField>
    | RowPanel
  >;
}
